"""``scmodelforge embed``: cell embeddings of a trained model, written into a copy of an AnnData file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console


def embed(
    data: Annotated[Path, typer.Argument(metavar="IN", help="AnnData file (.h5ad) with counts.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write: IN with obsm['X_scmodelforge'] added.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Model or run folder, hf://owner/name or scmodelforge://name.")
    ],
    batch_size: Annotated[int, typer.Option(min=1, help="Cells in a forward pass; changes no embedding.")] = 64,
    layer: Annotated[str | None, typer.Option(help="Where the counts are: X, raw or a layer's name.")] = None,
    gene_id_column: Annotated[str | None, typer.Option(help="var column with gene ids; default: looked for.")] = None,
    dictionaries: Annotated[
        Path | None, typer.Option(help="Folder with the dictionaries of a published model's representation.")
    ] = None,
    trust_plugins: Annotated[bool, typer.Option(help="Import the Python files the model folder names.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write a model's cell embeddings into a copy of an AnnData file.

    Example: scmodelforge embed cells.h5ad embedded.h5ad --model runs/quickstart/model
    """
    from scmodelforge.workflows.embed import embed_file

    result = embed_file(
        data,
        out,
        model=model,
        batch_size=batch_size,
        layer=layer,
        gene_id_column=gene_id_column,
        dictionaries=dictionaries,
        trust_plugins=trust_plugins,
        force=force,
    )
    for line in result:
        _console.say(line)
