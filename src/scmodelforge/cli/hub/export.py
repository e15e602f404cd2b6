"""``scmodelforge hub export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, or run folder (its exported model).")],
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write.")],
    form: Annotated[
        str, typer.Option("--format", help="folder (a model folder) or vcp (for CZI's Virtual Cells Platform).")
    ] = "folder",
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights, such as apache-2.0; default that of the card.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model that is in FOLDER.")] = False,
    trust_plugins: Annotated[bool, typer.Option(help="Import the Python files the model folder names.")] = False,
) -> None:
    """Write a model in a form that others read.

    Example: scmodelforge hub export runs/lung exported
    """
    from scmodelforge.workflows.export_model import export_model

    lines = export_model(model, out, form=form, licence=licence, force=force, trust_plugins=trust_plugins)
    for line in lines:
        _console.say(line)
