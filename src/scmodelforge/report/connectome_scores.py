"""The scores of a connectome run as its page shows them: predictors in order, means, differences, folds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from scmodelforge.report.connectome_run import ConnectomeRun
from scmodelforge.report.connectome_tables import Comparison, Score
from scmodelforge.report.text import number

__all__ = [
    "Cell",
    "Predictor",
    "Row",
    "Where",
    "difference_rows",
    "fold_table",
    "main_metric",
    "metric_name",
    "plus_minus",
    "predictors",
    "score_table",
]

Where = Literal["inner", "cross"]

_FIRST = "pearson_r"
_LOWER_IS_BETTER = frozenset({"mse", "mae", "geodesic"})
_METRICS = {"pearson_r": "Pearson r", "spearman_r": "Spearman r", "r2": "R²", "mse": "MSE", "mae": "MAE"}
_USES = {"nothing": "nothing", "genes": "genes", "coordinates": "places", "both": "genes and places"}


@dataclass(frozen=True)
class Predictor:
    """All scores of one predictor.

    Attributes
    ----------
    name, kind
        Of the run; ``kind`` is ``model`` or ``baseline``.
    knows
        What it predicts from, in words.
    scores
        Its rows.
    """

    name: str
    kind: str
    knows: str
    scores: list[Score]

    def values(self, metric: str, where: Where = "inner") -> list[float]:
        """Return a metric of each fold and seed that has it."""
        found = [getattr(score, where).get(metric, math.nan) for score in self.scores]
        return [value for value in found if math.isfinite(value)]

    def mean(self, metric: str, where: Where = "inner") -> float:
        """Return the mean over folds and seeds; NaN if none has the metric."""
        values = self.values(metric, where)
        return float(np.mean(values)) if values else math.nan


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


def main_metric(run: ConnectomeRun) -> str:
    """Return the metric that decides: Pearson r, or the first one where there is no r."""
    known = [metric for score in run.scores for metric in score.inner]
    return _FIRST if _FIRST in known else known[0]


def metric_name(metric: str) -> str:
    """Return what a metric is called on a page."""
    return _METRICS.get(metric, metric.replace("_", " "))


def predictors(run: ConnectomeRun) -> list[Predictor]:
    """Return the predictors, the best mean of the main metric first, those without one last."""
    by_name: dict[str, list[Score]] = {}
    for score in run.scores:
        by_name.setdefault(score.name, []).append(score)
    found = [Predictor(name, rows[0].kind, _USES[rows[0].uses], rows) for name, rows in by_name.items()]
    metric = main_metric(run)
    sign = 1 if metric in _LOWER_IS_BETTER else -1
    return sorted(found, key=lambda each: _last_if_nan(sign * each.mean(metric)))


def plus_minus(values: Sequence[float]) -> str:
    """Return mean and standard deviation (of a sample) to the same decimal; a dash for no values."""
    if not values:
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
    ranked = predictors(run)
    metrics = list(dict.fromkeys(metric for score in run.scores for metric in getattr(score, where)))
    metrics.sort(key=lambda metric: metric != main_metric(run))
    best = {metric: _best(metric, [each.mean(metric, where) for each in ranked]) for metric in metrics}
    rows = []
    for each in ranked:
        figures = [
            Cell(plus_minus(each.values(metric, where)), each.mean(metric, where) == best[metric]) for metric in metrics
        ]
        rows.append(Row(each.name, [each.kind, each.knows], [Cell(f"{len(each.scores):,}"), *figures]))
    return [_with_direction(metric) for metric in metrics], rows


def fold_table(run: ConnectomeRun) -> tuple[list[str], list[Row]]:
    """Return a column for each fold of each seed and the main inner metric of each predictor there."""
    metric = main_metric(run)
    keys = sorted({(score.seed, score.fold) for score in run.scores})
    names = {(score.seed, score.fold): score.fold_name for score in run.scores}
    ranked = predictors(run)
    values = {(s.name, s.seed, s.fold): s.inner.get(metric, math.nan) for s in run.scores}
    best = {key: _best(metric, [values.get((each.name, *key), math.nan) for each in ranked]) for key in keys}
    rows = []
    for each in ranked:
        mine = {key: values.get((each.name, *key), math.nan) for key in keys}
        rows.append(Row(each.name, [], [Cell(number(value), value == best[key]) for key, value in mine.items()]))
    columns = [f"seed {seed}, fold {fold}" for seed, fold in keys]
    return [f"{text}: {names[key]}" if names[key] else text for text, key in zip(columns, keys, strict=True)], rows


def difference_rows(run: ConnectomeRun) -> dict[str, list[Row]]:
    """Return each predictor's differences to others: what it is, mean, interval, folds in which it is above 0."""
    found: dict[str, list[Row]] = {}
    for each in run.comparisons:
        figures = [_signed(each.mean), _interval(each), f"{each.num_better} of {each.num_folds}"]
        row = Row(each.against, [_meaning(each)], [Cell(text) for text in figures])
        found.setdefault(each.name, []).append(row)
    return found


def _meaning(each: Comparison) -> str:
    if not each.num_folds:
        return "not comparable"
    if not (math.isfinite(each.low) and math.isfinite(each.high)):
        return "too few folds to tell"
    if each.low > 0:
        return "better"
    return "worse" if each.high < 0 else "not told apart"


def _interval(each: Comparison) -> str:
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


def _last_if_nan(value: float) -> float:
    return value if math.isfinite(value) else math.inf
