"""Scores that are means or medians over cells, and how far they would vary with other cells or other donors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scmodelforge.data.draws import generator
from scmodelforge.eval.groups import draw_groups
from scmodelforge.eval.metrics import MANY_RESAMPLES, bootstrap_mean, interval

__all__ = ["CellScores"]


@dataclass(frozen=True)
class CellScores:
    """One value for each scored cell.

    Attributes
    ----------
    values
        Shape (n,).
    rows
        Which cells of the embedding they are, shape (n,).
    strata
        Codes, shape (n,): the score is the mean over strata of their means. ``None`` is one stratum.
    is_median
        Whether the score is the median instead.
    """

    values: np.ndarray
    rows: np.ndarray
    strata: np.ndarray | None = None
    is_median: bool = False

    @property
    def score(self) -> float:
        """The mean, the mean of the strata's means, or the median."""
        if self.is_median:
            return float(np.median(self.values))
        if self.strata is None:
            return float(self.values.mean())
        return float(np.mean([self.values[self.strata == stratum].mean() for stratum in np.unique(self.strata)]))

    def interval(self, *, seed: int, purpose: str) -> list[float] | None:
        """Return the 95 % bootstrap interval over cells; what a cell's neighbours are is kept."""
        if not self.is_median:
            draws = bootstrap_mean(
                self.values, groups=self.strata, seed=seed, purpose=purpose, resamples=MANY_RESAMPLES
            )
            return interval(draws)
        random, size = generator(seed, "bootstrap", purpose), len(self.values)
        medians = [np.median(self.values[random.integers(size, size=size)]) for _ in range(MANY_RESAMPLES)]
        return interval(np.asarray(medians))

    def group_interval(self, groups: np.ndarray, *, seed: int, purpose: str) -> list[float] | None:
        """Return the 95 % bootstrap interval over whole groups of cells; ``None`` if there are too few.

        Parameters
        ----------
        groups
            Group of each cell of the embedding, str; cells without one are left out.
        seed, purpose
            Base of the draws.
        """
        drawn = draw_groups(groups[self.rows], "bootstrap groups", purpose, seed=seed, resamples=MANY_RESAMPLES)
        if drawn is None:
            return None
        is_known, codes, times = drawn
        values = self.values[is_known]
        if self.is_median:
            return interval(_medians(values, codes, times))
        return interval(_means(values, codes, None if self.strata is None else self.strata[is_known], times))


def _means(values: np.ndarray, groups: np.ndarray, strata: np.ndarray | None, times: np.ndarray) -> np.ndarray:
    """Return the mean, over the strata that have cells, of the means of cells counted so many times."""
    num_groups = times.shape[1]
    codes = np.zeros(len(values), dtype=np.int64) if strata is None else np.unique(strata, return_inverse=True)[1]
    slots, num_strata = codes * num_groups + groups, int(codes.max()) + 1
    sums = np.bincount(slots, values, minlength=num_strata * num_groups).reshape(num_strata, num_groups)
    sizes = np.bincount(slots, minlength=num_strata * num_groups).reshape(num_strata, num_groups)
    totals = times @ sizes.T  # (resamples, strata)
    means = times @ sums.T / np.maximum(totals, 1)
    return np.asarray(means.sum(axis=1) / np.maximum((totals > 0).sum(axis=1), 1))


def _medians(values: np.ndarray, groups: np.ndarray, times: np.ndarray) -> np.ndarray:
    order = np.argsort(values, kind="stable")
    ordered, codes = values[order], groups[order]
    found = []
    for row in times:
        cumulative = np.cumsum(row[codes])
        middle = np.array([(cumulative[-1] - 1) // 2, cumulative[-1] // 2])  # the two in the middle, or one twice
        found.append(ordered[np.searchsorted(cumulative, middle, side="right")].mean())
    return np.asarray(found)
