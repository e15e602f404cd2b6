"""``scmodelforge hub pull``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console


def pull(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="hf://owner/name[@revision][/folder] or scmodelforge://name.")
    ],
    out: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="Folder to copy it to; default: only the cache.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Look on this machine only.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a model that is in FOLDER.")] = False,
) -> None:
    """Fetch a model by its address, into the cache or a folder.

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
