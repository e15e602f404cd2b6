"""``scmodelforge data bench``: how fast data load, and what limits it."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from scmodelforge import _console

if TYPE_CHECKING:
    from scmodelforge.workflows.data_bench import BenchReport


class Tokens(StrEnum):
    """What is made of the cells."""

    rank_value = "rank_value"
    none = "none"


def bench(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, stores or addresses, as data.paths.")],
    cells: Annotated[int, typer.Option(min=1, help="Most cells to load.")] = 100_000,
    threads: Annotated[int, typer.Option(min=0, help="Threads that read and tokenise, as data.num_workers.")] = 2,
    batch_size: Annotated[int, typer.Option(min=1, help="Cells of a batch.")] = 256,
    tokens: Annotated[Tokens, typer.Option(help="Rank tokens, padded; or none: sparse rows.")] = Tokens.rank_value,
    layer: Annotated[str | None, typer.Option(help="Where the counts are: X, raw or a layer's name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object instead of lines.")] = False,
) -> None:
    """Time one shuffled pass over some files, stage by stage, and name what limits it.

    Example: scmodelforge data bench cells.h5ad --threads 4
    """
    from scmodelforge.workflows.data_bench import bench_data

    report = bench_data(paths, cells=cells, threads=threads, batch_size=batch_size, tokens=tokens.value, layer=layer)
    rates = {
        "cells_per_second": round(report.cells_per_second, 1),
        "cells_per_cpu_second": round(report.cells_per_cpu_second, 1),
    }
    if as_json:
        _console.json_line({**asdict(report), **rates})
        return
    for name, value in _lines(report):
        typer.echo(f"{name:<22} {value}")


def _lines(report: BenchReport) -> list[tuple[str, str]]:
    growth, speed = report.rss_growth_mib, report.megabytes_per_second
    stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in report.stages.items())
    return [
        ("cells", f"{report.cells:,} in batches of {report.batch_size:,}, {report.threads} threads"),
        ("cells/s", f"{report.cells_per_second:,.0f}"),
        ("cells/CPU s", f"{report.cells_per_cpu_second:,.0f}"),
        ("first batch", f"{report.first_batch_seconds:.2f} s"),
        ("memory growth", "unknown" if growth is None else f"{growth:,.0f} MiB"),
        ("read", "unknown" if speed is None else f"{speed:,.0f} MB/s"),
        ("seconds of stages", stages),
        ("bottleneck", report.bottleneck),
        ("advice", report.advice),
    ]
