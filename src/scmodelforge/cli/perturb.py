"""``scmodelforge perturb``: what a model says would happen to cells if genes of theirs were gone or up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console


def perturb(
    data: Annotated[Path, typer.Argument(metavar="IN", help="AnnData file (.h5ad) with counts.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Table to write (.csv), or a copy of IN (.h5ad) with it in uns.")
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Model or run folder, hf://owner/name or scmodelforge://name.")
    ],
    genes: Annotated[str, typer.Option(help="Symbols or ids between commas, or 'all'.")],
    kind: Annotated[str, typer.Option(help="What is done to them: delete, overexpress or activate.")] = "delete",
    combine: Annotated[
        str, typer.Option(help="each: one by one; pairs: also every two; together: all at once.")
    ] = "each",
    cells: Annotated[
        str | None, typer.Option(help="Cells to perturb: COLUMN=VALUE, or an expression over obs columns.")
    ] = None,
    per: Annotated[str | None, typer.Option(help="obs column: effects in the cells of each of its values.")] = None,
    from_state: Annotated[str | None, typer.Option(help="Cells to perturb on their way to --to-state.")] = None,
    to_state: Annotated[
        str | None, typer.Option(help="Goal: COLUMN=VALUE or an expression; without --from-state all others set out.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="exact: a pass for each change; gradient: to first order, all genes at once.")
    ] = "exact",
    max_cells: Annotated[
        int | None, typer.Option(min=2, help="Draw so many cells at most, of each value of --per and of the goal.")
    ] = None,
    random_genes: Annotated[
        int, typer.Option(min=0, help="Random genes in each cell to compare effects with; 0 leaves the test out.")
    ] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of cells and random genes that are drawn.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Cells in a forward pass; changes no number.")] = 64,
    layer: Annotated[str | None, typer.Option(help="Where the counts are: X, raw or a layer's name.")] = None,
    gene_id_column: Annotated[str | None, typer.Option(help="var column with gene ids; default: looked for.")] = None,
    dictionaries: Annotated[
        Path | None, typer.Option(help="Folder with the dictionaries of a published model's representation.")
    ] = None,
    trust_plugins: Annotated[bool, typer.Option(help="Import the Python files the model folder names.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Change genes of cells in silico and write how far the model's cell embeddings move.

    Example: scmodelforge perturb cells.h5ad effects.csv --model runs/lung --genes GATA1,KLF1
    """
    from scmodelforge.workflows.perturb_file import perturb_file

    asked = {
        "genes": genes,
        "kind": kind,
        "combine": combine,
        "cells": cells,
        "per": per,
        "from_state": from_state,
        "to_state": to_state,
        "method": method,
        "max_cells": max_cells,
        "random_genes": random_genes,
        "seed": seed,
    }
    result = perturb_file(
        data,
        out,
        model=model,
        asked=asked,
        batch_size=batch_size,
        layer=layer,
        gene_id_column=gene_id_column,
        dictionaries=dictionaries,
        trust_plugins=trust_plugins,
        force=force,
    )
    for line in result:
        _console.say(line)
