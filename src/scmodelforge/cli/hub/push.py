"""``scmodelforge hub push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, or run folder (its exported model).")],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="Repository on the hub; made if it is not there.")
    ],
    private: Annotated[bool, typer.Option(help="Make a private repository.")] = False,
) -> None:
    """Put a model on the hub, and load it back from there.

    Example: scmodelforge hub push runs/lung owner/lung
    """
    raise NotImplementedError
