"""``scmodelforge data``: what can be done with data before a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console
from scmodelforge.cli import _data_bench

app = typer.Typer(help="Before a run: split data, time reading them.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Before a run: split data, time reading them."""


app.command("bench")(_data_bench.bench)


@app.command("split")
def split(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, stores or addresses, as data.paths.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write; data.split.file names it.")],
    by: Annotated[
        str, typer.Option("--by", help="obs column whose groups stay together, 'cells', or 'auto' for the donors.")
    ] = "auto",
    fraction: Annotated[
        float | None, typer.Option("--fraction", min=0, max=1, help="Share of the cells held out; default 0.1.")
    ] = None,
    groups: Annotated[
        list[str] | None, typer.Option("--groups", help="Hold out exactly this group of the column. Repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the choice.")] = 0,
    expression: Annotated[
        str | None, typer.Option("--filter", help="As data.filter: leave out cells for which this does not hold.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write which cells are trained on and which are held out, for several runs to share.

    Example: scmodelforge data split cells.h5ad --by donor_id --fraction 0.2 -o splits.json
    """
    from scmodelforge._errors import ConfigError
    from scmodelforge.config.schema import SplitConfig
    from scmodelforge.workflows.split import split_files

    if groups and fraction is not None:
        msg = "--groups and --fraction both say what is held out; give one of them."
        raise ConfigError(msg)
    if fraction == 1:
        msg = "--fraction 1 leaves no cell to train on; hold out less."
        raise ConfigError(msg)
    settings = SplitConfig(by=by, validation_groups=groups or None, seed=seed)
    if fraction is not None:
        settings.validation_fraction = fraction
    for line in split_files(paths, out, split=settings, expression=expression, force=force):
        _console.say(line)
