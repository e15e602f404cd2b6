"""``scmodelforge evaluate``: benchmarks of a trained model, beside the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from scmodelforge import _console

__all__ = ["BareBaselines", "evaluate"]

_UNTRAINED = "pca,hvg,random,untrained"


class BareBaselines(TyperCommand):
    """Takes ``--baselines`` without names too: all that need no training."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the names in where there are none."""
        filled = []
        for place, word in enumerate(args):
            after = args[place + 1] if place + 1 < len(args) else "-"
            is_bare = word == "--baselines" and (after.startswith("-") or Path(after).exists())
            filled.append(f"--baselines={_UNTRAINED}" if is_bare else word)
        return super().parse_args(ctx, filled)


def evaluate(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL...", help="Run folders, or model folders (with --data).")
    ],
    data: Annotated[
        Path | None, typer.Option(help="AnnData file to evaluate on; default: the held-out cells of the run.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="obs column with the cell types.")] = None,
    batch: Annotated[str | None, typer.Option(help="obs column with the batch.")] = None,
    split_by: Annotated[
        str | None, typer.Option(help="With --data: obs column of groups held out whole, 'cells' or 'auto' (default).")
    ] = None,
    benchmarks: Annotated[
        list[str] | None, typer.Option("--benchmark", "--eval", help="Benchmark to run. Repeatable, or a,b.")
    ] = None,
    baselines: Annotated[
        str | None,
        typer.Option(
            metavar="[NAMES]",
            help=f"Score these beside the model: {_UNTRAINED} (also without names), scvi (is trained first).",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of splits, probes and intervals.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the records to this .jsonl file.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Also draw the scores and the cells into this folder.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the files of --out and --plots.")] = False,
    trust_plugins: Annotated[bool, typer.Option(help="Import the Python files the model folder names.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON record a line instead of a table.")] = False,
) -> None:
    """Score models on held-out cells, beside their baselines.

    Example: scmodelforge evaluate runs/quickstart --baselines
    """
    from scmodelforge.workflows.evaluate import Choices, evaluate_models

    if plots is not None:
        from scmodelforge.report.evaluation_plots import check_plots

        check_plots(plots, force=force)
    choices = Choices(
        data=data,
        label=label,
        batch=batch,
        split_by=split_by,
        benchmarks=_listed(benchmarks or []) or None,
        baselines=None if baselines is None else _listed([baselines]),
        seed=seed,
        trust_plugins=trust_plugins,
    )
    result = evaluate_models(models, choices, out=out, force=force)
    if plots is not None:
        from scmodelforge.report.evaluation_plots import write_plots

        result.lines += [f"picture: {path}" for path in write_plots(plots, result, seed=seed)]
    if as_json:
        for values in result.to_dicts():
            _console.json_line(values)
        return
    _console.table(result.table[0], result.table[1:], title=result.title)
    for line in result.lines:
        _console.say(line)


def _listed(words: list[str]) -> list[str]:
    return list(dict.fromkeys(name.strip() for word in words for name in word.split(",") if name.strip()))
