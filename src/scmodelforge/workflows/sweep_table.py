"""What a sweep found: the scores of each setting on the folds, in a table, and which setting is the best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

__all__ = ["SweepResult", "Tried"]


@dataclass(frozen=True)
class Tried:
    """One setting, tried on all folds.

    Attributes
    ----------
    name
        The setting in words, ``a.b=c``.
    scores
        Of each metric the score on each fold; NaN where it has none.
    """

    name: str
    scores: dict[str, list[float]]

    def mean(self, metric: str) -> float:
        """Return the mean over the folds."""
        return float(np.mean(self.scores[metric]))

    def half_width(self, metric: str) -> float:
        """Return half the width of the 95 % interval of the mean, by Student's t over the folds; NaN of one fold."""
        values = self.scores[metric]
        if len(values) < 2:
            return math.nan
        return float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found.

    Attributes
    ----------
    tried
        The settings, the best one first.
    metric
        What they are ordered by.
    folds
        Number of folds.
    folder
        Folder of the sweep.
    held_out
        What the folds are of.
    chosen_on
        What the metric is of.
    """

    tried: list[Tried]
    metric: str
    folds: int
    folder: Path
    held_out: str = "cells"
    chosen_on: str = ""

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return headings and rows: the mean of each metric over the folds, and half its 95 % interval."""
        metrics = list(self.tried[0].scores)
        rows = [
            [each.name, *(f"{each.mean(metric):.4f} ±{each.half_width(metric):.4f}" for metric in metrics)]
            for each in self.tried
        ]
        ends = [metric.rpartition("/")[2] for metric in metrics]
        is_clear = [name.startswith("eval/") and ends.count(end) == 1 for end, name in zip(ends, metrics, strict=True)]
        named = zip(is_clear, ends, metrics, strict=True)
        return ["setting", *(end if clear else name for clear, end, name in named)], rows

    def closing_lines(self) -> list[str]:
        """Return which setting is the best, how sure that is, and the next command."""
        best = self.tried[0]
        lines = [f"best by {self.metric} over {self.folds} folds: {best.name}"]
        if len(self.tried) > 1:
            second = self.tried[1]
            gaps = np.subtract(best.scores[self.metric], second.scores[self.metric])
            paired = Tried("", {"gap": gaps.tolist()})
            if not abs(paired.mean("gap")) > paired.half_width("gap"):
                lines.append(f"it cannot be told apart from {second.name} on these folds")
        if self.chosen_on:
            lines.append(f"chosen on: {self.chosen_on}")
        return [*lines, f"runs:    {self.folder}"]
