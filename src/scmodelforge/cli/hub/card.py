"""``scmodelforge hub card``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from scmodelforge import _console
from scmodelforge.cli.hub.pull import quiet_unless_terminal


def card(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Address of a model.")],
    write: Annotated[bool, typer.Option("--write", help="Write it to README.md of the model folder.")] = False,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights, such as apache-2.0; default that of the card.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --write: replace a card that was edited.")] = False,
    trust_plugins: Annotated[bool, typer.Option(help="Import the Python files the model folder names.")] = False,
) -> None:
    """Print or renew the card of a model, made of the facts of its folder.

    Example: scmodelforge hub card runs/lung
    """
    from scmodelforge.workflows.card_files import renewed_card

    quiet_unless_terminal()
    found = renewed_card(model, licence=licence, write=write, force=force, trust_plugins=trust_plugins)
    if not write:
        sys.stdout.write(found.text)
    for line in found.notes:
        _console.say(line)
