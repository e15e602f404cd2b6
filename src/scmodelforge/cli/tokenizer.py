"""``scmodelforge tokenizer``: tokenizers apart from a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console

app = typer.Typer(
    help="Tokenizers: fit, look at and compare them, fetch what published ones need.", no_args_is_help=True
)

_Paths = Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, stores or addresses, as data.paths.")]
_Vocab = Annotated[str, typer.Option("--gene-vocab", help="As data.gene_vocab.")]
_Layer = Annotated[str | None, typer.Option(help="Where the counts are: X, raw or a layer's name.")]
_Column = Annotated[str | None, typer.Option("--gene-id-column", help="As data.gene_id_column.")]
_Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="A setting: tokenizer.max_genes=4096, data.preprocessing.normalize=library_size. Repeatable."
    ),
]


@app.callback()
def tokenizer() -> None:
    """Tokenizers: fit, look at and compare them, fetch what published ones need."""


@app.command()
def fit(
    paths: _Paths,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    strategy: Annotated[str | None, typer.Option(help="As tokenizer.strategy; default rank_value.")] = None,
    gene_vocab: _Vocab = "from_data",
    layer: _Layer = None,
    gene_id_column: _Column = None,
    overrides: _Sets = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a tokenizer that is there.")] = False,
) -> None:
    """Fit a tokenizer (medians, bins) to all cells of some files in one pass.

    Example: scmodelforge tokenizer fit a.h5ad b.h5ad -o tokenizer
    """
    from scmodelforge.workflows.tokenizer_fit import corpus_settings, fit_tokenizer

    config = corpus_settings(
        paths,
        strategy=strategy,
        gene_vocab=gene_vocab,
        layer=layer,
        gene_id_column=gene_id_column,
        overrides=overrides or [],
    )
    for line in fit_tokenizer(config, out, force=force):
        _console.say(line)


@app.command()
def inspect(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model's folder or address, or the folder that `fit` wrote.")
    ],
    data: Annotated[
        list[str] | None, typer.Option("--data", help="A file of which one cell is shown as tokens. Repeatable.")
    ] = None,
    cell: Annotated[int, typer.Option(help="Which cell, from 0.")] = 0,
    first: Annotated[int, typer.Option(min=1, help="How many of its tokens.")] = 20,
    layer: _Layer = None,
    gene_id_column: _Column = None,
    dictionaries: Annotated[
        Path | None, typer.Option(help="Folder with the dictionaries of a published model's representation.")
    ] = None,
    trust_plugins: Annotated[bool, typer.Option(help="Import the Python files the model folder names.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object instead of lines.")] = False,
) -> None:
    """Say what a saved tokenizer is, and show what it makes of a cell.

    Example: scmodelforge tokenizer inspect runs/quickstart --data cells.h5ad --cell 3
    """
    from scmodelforge.workflows.tokenizer_inspect import describe_tokenizer, tokenizer_at, tokens_of_cell

    tokenizer, preprocessor = tokenizer_at(model, dictionaries=dictionaries, trust_plugins=trust_plugins)
    lines, tokens = describe_tokenizer(tokenizer), None
    if data:
        tokens = tokens_of_cell(tokenizer, preprocessor, data, cell, layer=layer, gene_id_column=gene_id_column)
    if as_json:
        _console.json_line({**dict(lines), **({} if tokens is None else {"tokens": tokens[:first]})})
        return
    for name, value in lines:
        typer.echo(f"{name:<15} {value}")
    if tokens is None:
        return
    columns = list(tokens[0]) if tokens else []
    rows = [[f"{row[name]:.4g}" if name == "value" else str(row[name]) for name in columns] for row in tokens[:first]]
    _console.table(columns, rows, title=f"cell {cell}: the first {len(rows)} of {len(tokens):,} tokens")


@app.command()
def compare(
    paths: _Paths,
    strategies: Annotated[
        list[str] | None, typer.Option("--strategy", help="As tokenizer.strategy; default all. Repeatable.")
    ] = None,
    cells: Annotated[int, typer.Option(min=1, help="Most cells to take.")] = 500,
    gene_vocab: _Vocab = "from_data",
    layer: _Layer = None,
    gene_id_column: _Column = None,
    overrides: _Sets = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of cells.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
) -> None:
    """Show for some cells what each tokenizer keeps, loses and costs.

    Example: scmodelforge tokenizer compare cells.h5ad --set tokenizer.max_genes=1024
    """
    from dataclasses import asdict

    from scmodelforge._errors import ConfigError
    from scmodelforge._registry import TOKENIZERS
    from scmodelforge.workflows.tokenizer_compare import compare_tokenizers
    from scmodelforge.workflows.tokenizer_fit import corpus_settings

    configs = []
    for strategy in strategies or TOKENIZERS.names():
        try:
            config = corpus_settings(
                paths,
                strategy=strategy,
                gene_vocab=gene_vocab,
                layer=layer,
                gene_id_column=gene_id_column,
                overrides=overrides or [],
            )
        except ConfigError as problem:
            if strategies:
                raise
            reason = " ".join(str(problem).split()).removeprefix("the command line: ")
            _console.say(f"{strategy} is left out: {reason}")
        else:
            configs.append(config)
    if not configs:
        msg = "no tokenizer takes these settings, for the reasons above."
        raise ConfigError(msg)
    found, lines = compare_tokenizers(configs, num_cells=cells, seed=seed)
    if as_json:
        _console.json_line([asdict(row) for row in found])
        return
    for line in lines:
        _console.say(line)
    rows = [
        [
            row.strategy,
            f"{row.tokens:,.0f}",
            f"{row.genes_kept:.1%}",
            f"{row.counts_kept:.1%}",
            f"{row.genes_unknown:.1%}",
            f"{row.genes_cut:.1%}",
            f"{row.cells_cut:.1%}",
            f"{row.levels:,.0f}",
            f"{row.bytes_per_cell / 1e3:,.1f}",
            f"{row.microseconds:,.0f}",
        ]
        for row in found
    ]
    columns = ["tokenizer", "tokens", "genes kept", "counts kept", "unknown", "cut", "cells cut", "levels", "kB", "us"]
    _console.table(columns, rows)


@app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Representation: geneformer-v1, geneformer-v2 or scgpt.")],
    source: Annotated[
        str, typer.Option("--from", metavar="DIR|hub", help="Folder with the dictionaries, or the Hugging Face hub.")
    ] = "hub",
) -> None:
    """Fetch the dictionaries of a published model, check them and keep them for other commands.

    They are kept in ~/.cache/scmodelforge, or where the variable SCMODELFORGE_CACHE says.

    Example: scmodelforge tokenizer fetch geneformer-v2 --from hub
    """
    from scmodelforge.workflows.dictionaries import fetch_dictionaries

    for line in fetch_dictionaries(name, source):
        _console.say(line)
