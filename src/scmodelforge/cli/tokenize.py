"""``scmodelforge tokenize``: the tokens of a file's cells in a published model's representation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console


def tokenize(
    data: Annotated[Path, typer.Argument(metavar="IN", help="AnnData file or zarr store with counts.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.parquet", help="File to write, a row for each cell kept.")],
    preset: Annotated[
        str, typer.Option("--preset", "-p", help="Representation: geneformer-v1, geneformer-v2 or scgpt.")
    ],
    dictionaries: Annotated[
        Path | None, typer.Option(help="Folder with its dictionaries; default what 'tokenizer fetch' has kept.")
    ] = None,
    ties: Annotated[
        str | None, typer.Option(help="As tokenizer.ties: token, stable, numpy; of scgpt random, mid, lower, upper.")
    ] = None,
    compat: Annotated[bool, typer.Option("--compat", help="Do as the official code does, its oddities too.")] = False,
    obs: Annotated[list[str] | None, typer.Option("--obs", help="obs column to write along. Repeatable.")] = None,
    layer: Annotated[str | None, typer.Option(help="Where the counts are: X, raw or a layer's name.")] = None,
    gene_id_column: Annotated[
        str | None, typer.Option(help="var column with gene ids; default ensembl_id, of scgpt feature_name.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.parquet if it exists.")] = False,
) -> None:
    """Write the tokens of a file's cells: columns cell_index, input_ids, length, values of bins, and those of --obs.

    Example: scmodelforge tokenize cells.h5ad tokens.parquet --preset geneformer-v2 --obs cell_type
    """
    from scmodelforge.workflows.tokenize import tokenize_file

    lines = tokenize_file(
        data,
        out,
        preset=preset,
        dictionaries=dictionaries,
        ties=ties,
        compat=compat,
        obs=obs or (),
        layer=layer,
        gene_id_column=gene_id_column,
        force=force,
    )
    for line in lines:
        _console.say(line)
