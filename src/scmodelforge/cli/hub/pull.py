"""``scmodelforge hub pull``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console


def pull(
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS",
            help="hf://owner/name[@branch][/folder] on the Hugging Face hub, or scmodelforge://name.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]",
            help="Folder to copy the model to. Default: it stays in the cache, where its address finds it.",
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Take what is on this machine; ask no hub.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the model in FOLDER, if one is there.")] = False,
) -> None:
    """Download a model, and check that all its files are there.

    Example: scmodelforge hub pull hf://owner/lung models/lung
    """
    from scmodelforge.workflows.pull_model import pull_model

    quiet_unless_terminal()
    for line in pull_model(address, out, offline=offline, force=force):
        _console.say(line)


def quiet_unless_terminal() -> None:
    """Have the hub's client draw its moving bars on terminals only."""
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
