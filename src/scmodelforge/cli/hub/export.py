"""``scmodelforge hub export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console
from scmodelforge._errors import ConfigError


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, or the folder of a finished run.")],
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write.")],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="folder: a model folder that can be copied anywhere; vcp: a package for CZI's Virtual Cells Platform.",
        ),
    ] = "folder",
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Low-rank adapters and head alone, in the format of peft.")
    ] = False,
    merged: Annotated[
        bool, typer.Option("--merged", help="A model folder with the low-rank adapters in the weights.")
    ] = False,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights, such as apache-2.0. Default: the one in its card.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the model in FOLDER, if one is there.")] = False,
    trust_plugins: Annotated[
        bool,
        typer.Option(
            help="Run the Python files that come with the model; without this it is refused if it needs them."
        ),
    ] = False,
) -> None:
    """Write a model into a folder to hand on, and check that it reads back the same.

    Example: scmodelforge hub export runs/lung exported
    """
    from scmodelforge.workflows.export_model import export_model

    if adapter + merged + (form != "folder") > 1:
        msg = "--adapter, --merged and --format each say what is written; keep one of them."
        raise ConfigError(msg)
    form = "adapter" if adapter else "merged" if merged else form
    lines = export_model(model, out, form=form, licence=licence, force=force, trust_plugins=trust_plugins)
    for line in lines:
        _console.say(line)
