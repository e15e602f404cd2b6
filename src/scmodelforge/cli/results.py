"""``scmodelforge results``: scores of runs together in one table, and two of them compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scmodelforge import _console
from scmodelforge._errors import ConfigError

if TYPE_CHECKING:
    from scmodelforge.workflows.results import Filters

app = typer.Typer(help="Show and compare the scores of runs.", no_args_is_help=True)

_Benchmarks = Annotated[
    list[str] | None, typer.Option("--benchmark", "--eval", help="Only of this benchmark. Repeatable, or a,b.")
]
_Metrics = Annotated[
    list[str] | None, typer.Option("--metric", help="Only this metric, or those that begin so (f1*). Repeatable.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line instead of a table.")]


@app.command("show")
def show(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Run folders, or files of records.")],
    benchmarks: _Benchmarks = None,
    metrics: _Metrics = None,
    step: Annotated[str, typer.Option(help="Step of training, 'last' (or the exported model) or 'all'.")] = "last",
    details: Annotated[
        bool, typer.Option("--details", help="Also the metrics that short tables leave out, and nearest genes.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Show the scores of one or several runs, with their baselines, in one table.

    Example: scmodelforge results show runs/a runs/b
    """
    from scmodelforge.eval.harness import skip_notes
    from scmodelforge.eval.merging import about_baselines, merged
    from scmodelforge.eval.tables import about_details, about_intervals, about_samples, terminal_tables
    from scmodelforge.workflows.results import read_results

    results = read_results(paths, _filters(benchmarks, metrics, step))
    if as_json:
        for each in results:
            _console.json_line(each.to_dict())
        return
    records = merged(results)
    details = details or all(record.is_detail for record in records)
    shown = terminal_tables(records, details=details)
    title = f"{len(results):,} records ({about_intervals(records)})"
    _console.tables(shown.tables, title=title, legend=shown.legend)
    runs = dict.fromkeys(each.run for each in results)
    notes = [skip_notes(each.record for each in results if each.run == run) for run in runs]
    lines = [*about_samples(records), *about_baselines(records), *(line for each in notes for line in each)]
    for line in dict.fromkeys([*lines, *([] if details else about_details(records))]):
        _console.say(line)


@app.command("compare")
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Run folder, or file of records.")],
    second: Annotated[
        Path | None, typer.Argument(metavar="[B]", help="The same; without it A is a file of two runs.")
    ] = None,
    benchmarks: _Benchmarks = None,
    metrics: _Metrics = None,
    representation: Annotated[str, typer.Option(help="What is compared: 'model', or a baseline.")] = "model",
    details: Annotated[bool, typer.Option("--details", help="Also the metrics that short tables leave out.")] = False,
    as_json: _Json = False,
) -> None:
    """Say which scores of two runs can be compared, and how far these are apart.

    Example: scmodelforge results compare runs/a runs/b, or of one file: scmodelforge results compare both.jsonl
    """
    from scmodelforge.workflows.comparisons import (
        compare_results,
        comparison_legend,
        comparison_notes,
        comparison_tables,
    )

    found = compare_results(first, second, _filters(benchmarks, metrics, "last"), representation=representation)
    if as_json:
        for each in found.found:
            _console.json_line(each.to_dict())
        return
    tables, legend = comparison_tables(found, details=details), comparison_legend(found, details=details)
    _console.tables(tables, title=found.title(details=details), legend=legend)
    for line in comparison_notes(found.found):
        _console.say(line)


def _filters(benchmarks: list[str] | None, metrics: list[str] | None, step: str) -> Filters:
    from scmodelforge.workflows.results import Filters

    if step not in ("last", "all") and not step.isdecimal():
        msg = f"--step is '{step}'; it must be a step of training, 'last' or 'all'."
        raise ConfigError(msg)
    return Filters(
        benchmarks=[name for each in benchmarks or [] for name in each.split(",") if name],
        metrics=[name for each in metrics or [] for name in each.split(",") if name],
        steps=int(step) if step.isdecimal() else "all" if step == "all" else "last",
    )
