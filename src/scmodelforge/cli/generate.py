"""``scmodelforge generate``: synthetic cells of a generative model, as an AnnData file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from scmodelforge import _console


def generate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write (.h5ad).")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Run folder, model folder, hf://owner/name or scmodelforge://name.")
    ],
    num_cells: Annotated[int, typer.Option("--num-cells", "-n", min=1, help="Cells to draw.")] = 100,
    num_genes: Annotated[
        int | None,
        typer.Option(min=1, help="Genes to draw a cell, beside its prompt; default: as training cells have."),
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(metavar="GENE=BIN", help="A gene every cell expresses, and its bin. Repeatable.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0, help="Below 1 more cautious; 0 takes the most probable.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="Draw among so many most probable genes only.")] = None,
    bins: Annotated[
        Literal["sample", "argmax", "mean"], typer.Option(help="Draw bins, or take the most probable or the mean.")
    ] = "sample",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of all draws.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Cells drawn together.")] = 64,
    trust_plugins: Annotated[bool, typer.Option(help="Import the Python files the model folder names.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Draw synthetic cells from a model that can generate.

    Example: scmodelforge generate synthetic.h5ad --model runs/ar -n 500 --prompt CD3D=40
    """
    from scmodelforge.workflows.generate import GenerateOptions, generate_file, parse_prompt

    options = GenerateOptions(
        num_cells=num_cells,
        num_genes=num_genes,
        prompt=parse_prompt(prompt or []),
        temperature=temperature,
        top_k=top_k,
        bins=bins,
        seed=seed,
        batch_size=batch_size,
    )
    for line in generate_file(out, model=model, options=options, trust_plugins=trust_plugins, force=force):
        _console.say(line)
