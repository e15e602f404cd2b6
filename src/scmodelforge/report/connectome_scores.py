"""The scores of a connectome run as its page shows them: predictors in order, means, differences, folds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scmodelforge.connectome.comparison import PairedDifference
from scmodelforge.report.connectome_run import ConnectomeRun
from scmodelforge.report.text import number
from scmodelforge.workflows.connectome.standing import METRIC, Where

__all__ = ["Cell", "Row", "difference_rows", "fold_table", "metric_name", "plus_minus", "score_table"]

_LOWER_IS_BETTER = frozenset({"mse", "mae", "geodesic"})
_METRICS = {"pearson_r": "Pearson r", "spearman_r": "Spearman r", "r2": "R²", "mse": "MSE", "mae": "MAE"}


@dataclass(frozen=True)
class Cell:
    """A figure of a table."""

    text: str
    is_best: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table: what it is of, words, figures."""

    name: str
    words: list[str] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)


def metric_name(metric: str) -> str:
    """Return what a metric is called on a page."""
    return _METRICS.get(metric, metric.replace("_", " "))


def plus_minus(values: Sequence[float] | np.ndarray) -> str:
    """Return mean and standard deviation (of a sample) to the same decimal; a dash for no values."""
    if not len(values):
        return "-"
    mean = float(np.mean(values))
    if len(values) == 1:
        return number(mean)
    spread = float(np.std(values, ddof=1))
    larger = number(max(abs(mean), spread))
    if "e" in larger:
        return f"{number(mean)} ± {number(spread, 2)}"
    decimals = len(larger.partition(".")[2])
    return f"{mean:,.{decimals}f} ± {spread:,.{decimals}f}"


def score_table(run: ConnectomeRun, where: Where) -> tuple[list[str], list[Row]]:
    """Return the columns and rows of all predictors: kind, what it knows, folds; each metric as mean ± sd.

    The best mean of each column is marked, whoever has it and whether or not it can be told from the others.
    """
    metrics = list(dict.fromkeys(metric for score in run.scores for metric in getattr(score, where)))
    metrics.sort(key=lambda metric: metric != METRIC)
    means = {metric: [_mean(each.values(metric, where)) for each in run.standings] for metric in metrics}
    best = {metric: _best(metric, values) for metric, values in means.items()}
    rows = []
    for place, each in enumerate(run.standings):
        figures = [
            Cell(plus_minus(each.values(metric, where)), means[metric][place] == best[metric]) for metric in metrics
        ]
        rows.append(Row(each.name, [each.kind, each.knows], [Cell(f"{len(each.num_pairs):,}"), *figures]))
    return [_with_direction(metric) for metric in metrics], rows


def fold_table(run: ConnectomeRun) -> tuple[list[str], list[Row]]:
    """Return a column for each fold of each seed and Pearson r of inner pairs of each predictor there."""
    keys = sorted({(score.seed, score.fold) for score in run.scores})
    names = {(score.seed, score.fold): score.fold_name for score in run.scores}
    values = {(s.name, s.seed, s.fold): s.inner.get(METRIC, math.nan) for s in run.scores}
    ranked = [each.name for each in run.standings]
    best = {key: _best(METRIC, [values.get((name, *key), math.nan) for name in ranked]) for key in keys}
    rows = []
    for name in ranked:
        mine = {key: values.get((name, *key), math.nan) for key in keys}
        rows.append(Row(name, [], [Cell(number(value), value == best[key]) for key, value in mine.items()]))
    columns = [f"seed {seed}, fold {fold}" for seed, fold in keys]
    return [f"{text}: {names[key]}" if names[key] else text for text, key in zip(columns, keys, strict=True)], rows


def difference_rows(run: ConnectomeRun) -> dict[str, list[Row]]:
    """Return each predictor's differences to others: what it is, mean, interval, folds in which it is above 0."""
    found: dict[str, list[Row]] = {}
    for each in run.comparisons:
        gap = each.gap
        figures = [_signed(gap.mean), _interval(gap), f"{gap.num_better} of {gap.num_folds}"]
        row = Row(each.against, [_meaning(gap)], [Cell(text) for text in figures])
        found.setdefault(each.name, []).append(row)
    return found


def _meaning(each: PairedDifference) -> str:
    if not each.num_folds:
        return "not comparable"
    if not (math.isfinite(each.low) and math.isfinite(each.high)):
        return "too few folds to tell"
    if each.low > 0:
        return "better"
    return "worse" if each.high < 0 else "not told apart"


def _interval(each: PairedDifference) -> str:
    if not (math.isfinite(each.low) and math.isfinite(each.high)):
        return "-"
    return f"{_signed(each.low)} to {_signed(each.high)}"


def _signed(value: float) -> str:
    """Return a difference; three decimals, as r has them."""
    return f"{value:+.3f}" if math.isfinite(value) else "-"


def _best(metric: str, values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    choose = min if metric in _LOWER_IS_BETTER else max
    return choose(known, default=math.nan)


def _with_direction(metric: str) -> str:
    return f"{metric_name(metric)} (lower is better)" if metric in _LOWER_IS_BETTER else metric_name(metric)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan
