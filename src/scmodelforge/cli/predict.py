"""``scmodelforge predict``: what a model says of cells, written into a copy of an AnnData file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console


def predict(
    data: Annotated[Path, typer.Argument(metavar="IN", help="AnnData file (.h5ad) with counts.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write: IN with labels and confidences in obs.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Address of a model that learned cell types.")],
    min_confidence: Annotated[float, typer.Option(help="Cells below this probability are unknown.")] = 0.0,
    unknown: Annotated[str, typer.Option(help="What cells are called whose type is not known.")] = "unknown",
    batch_size: Annotated[int, typer.Option(min=1, help="Cells in a forward pass; changes no label.")] = 64,
    layer: Annotated[str | None, typer.Option(help="Where the counts are: X, raw or a layer's name.")] = None,
    gene_id_column: Annotated[str | None, typer.Option(help="var column with gene ids; default var_names.")] = None,
    dictionaries: Annotated[
        Path | None, typer.Option(help="Folder with the dictionaries of a published model's representation.")
    ] = None,
    trust_plugins: Annotated[bool, typer.Option(help="Import the Python files the model folder names.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write the cell types that a model predicts, with their probability, into a copy of an AnnData file.

    Example: scmodelforge predict cells.h5ad labelled.h5ad --model runs/annotation
    """
    from scmodelforge.workflows.predict import Naming, predict_file

    result = predict_file(
        data,
        out,
        model=model,
        naming=Naming(min_confidence, unknown),
        batch_size=batch_size,
        layer=layer,
        gene_id_column=gene_id_column,
        dictionaries=dictionaries,
        trust_plugins=trust_plugins,
        force=force,
    )
    for line in result:
        _console.say(line)
