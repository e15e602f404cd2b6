"""``scmodelforge hub push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console
from scmodelforge.cli.hub.pull import quiet_unless_terminal


def push(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, or run folder (its exported model).")],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="Repository on the hub; made if it is not there.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Make a private repository.")] = False,
    revision: Annotated[
        str | None, typer.Option(help="Branch to push to, made if it is not there; default the main one.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights, such as apache-2.0; default that of the card.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="AnnData file on which the copy must reach the same score (with --label).")
    ] = None,
    label: Annotated[str | None, typer.Option(help="With --data: obs column with the cell types.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model of another kind.")] = False,
    trust_plugins: Annotated[bool, typer.Option(help="Import the Python files the model folder names.")] = False,
) -> None:
    """Put a model on the hub, and load it back from there; status 1 if what comes back is not the model.

    Example: scmodelforge hub push runs/lung owner/lung
    """
    from scmodelforge.workflows.push_model import push_model

    quiet_unless_terminal()
    lines = push_model(
        model,
        repository,
        private=private,
        revision=revision,
        licence=licence,
        data=data,
        label=label,
        force=force,
        trust_plugins=trust_plugins,
    )
    for line in lines:
        _console.say(line)
