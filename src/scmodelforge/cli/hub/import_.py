"""``scmodelforge hub import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Folder as published, hf://owner/name, or scmodelforge://name.")
    ],
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Model folder to write.")],
) -> None:
    """Write a published model as a model folder of ours.

    Example: scmodelforge hub import scmodelforge://geneformer-v2 models/geneformer
    """
    raise NotImplementedError
