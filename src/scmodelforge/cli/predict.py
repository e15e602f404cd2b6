"""``scmodelforge predict``: what a model says of cells, written into a copy of an AnnData file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predict(
    data: Annotated[Path, typer.Argument(metavar="IN", help="AnnData file (.h5ad) with counts.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write: IN with labels and confidences in obs.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Address of a model that learned cell types.")],
) -> None:
    """Write the cell types that a model predicts, with their probability, into a copy of an AnnData file.

    Example: scmodelforge predict cells.h5ad labelled.h5ad --model runs/annotation
    """
    raise NotImplementedError
