"""``scmodelforge hub export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, or run folder (its exported model).")],
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write.")],
) -> None:
    """Write a model folder in a form that others read.

    Example: scmodelforge hub export runs/lung exported
    """
    raise NotImplementedError
