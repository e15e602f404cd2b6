"""``scmodelforge hub pull``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pull(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="hf://owner/name[@revision] or scmodelforge://name.")
    ],
    out: Annotated[Path | None, typer.Argument(metavar="[FOLDER]", help="New folder to copy it to.")] = None,
) -> None:
    """Fetch a model by its address, into the cache or a folder.

    Example: scmodelforge hub pull hf://owner/lung models/lung
    """
    raise NotImplementedError
