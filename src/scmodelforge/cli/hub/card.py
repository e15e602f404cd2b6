"""``scmodelforge hub card``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from scmodelforge import _console
from scmodelforge.cli.hub.pull import quiet_unless_terminal


def card(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Model folder, the folder of a finished run, hf://owner/name or scmodelforge://name."
        ),
    ],
    write: Annotated[
        bool, typer.Option("--write", help="Write the card to README.md in the model folder, instead of printing it.")
    ] = False,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights, such as apache-2.0. Default: the one in its card.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --write: replace the card even if someone edited it.")
    ] = False,
    trust_plugins: Annotated[
        bool,
        typer.Option(
            help="Run the Python files that come with the model; without this it is refused if it needs them."
        ),
    ] = False,
) -> None:
    """Print the model card: what the model was trained on, how it scores, its licence. --write updates README.md.

    Example: scmodelforge hub card runs/lung
    """
    from scmodelforge.workflows.card_files import renewed_card

    quiet_unless_terminal()
    found = renewed_card(model, licence=licence, write=write, force=force, trust_plugins=trust_plugins)
    if not write:
        sys.stdout.write(found.text)
    for line in found.notes:
        _console.say(line)
