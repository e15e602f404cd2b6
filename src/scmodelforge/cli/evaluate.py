"""``scmodelforge evaluate``: benchmarks of a trained model, beside the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run folder, or model folder (with --data).")],
    data: Annotated[
        Path | None, typer.Option(help="AnnData file to evaluate on; default: the held-out cells of the run.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="obs column with the cell types.")] = None,
    batch: Annotated[str | None, typer.Option(help="obs column with the batch.")] = None,
    split_by: Annotated[
        str | None, typer.Option(help="With --data: obs column of groups held out whole, 'cells' or 'auto' (default).")
    ] = None,
    benchmarks: Annotated[list[str] | None, typer.Option("--benchmark", help="Benchmark to run. Repeatable.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of splits, probes and intervals.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the records to this .jsonl file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the --out file if it exists.")] = False,
    trust_plugins: Annotated[bool, typer.Option(help="Import the Python files the model folder names.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON record a line instead of a table.")] = False,
) -> None:
    """Score a model on held-out cells, beside its baselines.

    Example: scmodelforge evaluate runs/quickstart
    """
    from scmodelforge.workflows.evaluate import evaluate_model

    result = evaluate_model(
        model,
        data=data,
        label=label,
        batch=batch,
        split_by=split_by,
        benchmarks=benchmarks,
        seed=seed,
        out=out,
        force=force,
        trust_plugins=trust_plugins,
    )
    if as_json:
        for record in result.records:
            _console.json_line(record.to_dict())
        return
    _console.table(result.table[0], result.table[1:], title=result.title)
    for line in result.lines:
        _console.say(line)
