"""Scores of a ranking, with ties in expectation and weights, so that a bootstrap needs no sorting of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scmodelforge.data._compile import compiled

__all__ = ["RANKING_METRICS", "CountedItems", "Ranking"]

RANKING_METRICS = ("auroc", "auprc", "auprc_ratio", "epr")


@dataclass(frozen=True, slots=True)
class Ranking:
    """Items from the highest score to the lowest.

    Attributes
    ----------
    order
        Index of each item among those that were scored, shape (P,), int64.
    starts
        Where the items of each score begin, shape (groups,), int64.
    """

    order: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray) -> Ranking:
        """Sort items by their scores, shape (P,), all finite."""
        order = np.argsort(-scores, kind="stable")
        found = scores[order]
        is_start = np.ones(len(found), dtype=bool)
        is_start[1:] = found[1:] != found[:-1]
        return cls(order, np.flatnonzero(is_start))

    def scores(self, truth: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
        """Score the ranking.

        ``auroc`` is the share of pairs of a true and another item that stand in the right order (half of those that
        are tied), ``auprc`` the average precision (ties are one threshold, as scikit-learn has it), ``auprc_ratio``
        that over the share of true items, ``epr`` the precision among the first k items over that share, where k is
        the number of true ones (Pratapa et al. 2020, doi:10.1038/s41592-019-0690-6). At chance they are 1/2, the
        share of true items, 1 and 1.

        Parameters
        ----------
        truth
            Whether each item is true, shape (P,), bool, as the scores were listed.
        weights
            How often each item counts, shape (P,); ``None`` counts each once.

        Returns
        -------
        By name; NaN where no item is true, or every one.
        """
        if weights is None:
            return self.counted(truth, np.zeros(len(self.order), dtype=np.int32)).scores(np.ones(1))
        return self.counted(truth, np.arange(len(self.order))).scores(weights)

    def counted(self, truth: np.ndarray, keys: np.ndarray) -> CountedItems:
        """Return the items for scores by several weights, one for each key.

        Parameters
        ----------
        truth
            Whether each item is true, shape (P,), bool, as the scores were listed.
        keys
            Which weight is each item's, shape (P,), integer.
        """
        num_keys = int(keys.max(initial=-1)) + 1
        sizes, true_sizes = (np.bincount(each, minlength=num_keys) for each in (keys, keys[truth]))
        return CountedItems(keys[self.order], truth[self.order], self.starts, sizes, true_sizes)


@dataclass(frozen=True, slots=True)
class CountedItems:
    """Items in the order of their scores, each of which counts as often as its key says.

    Attributes
    ----------
    keys, truth
        Key of each item, and whether it is true, shape (P,), the best first.
    starts
        Where the items of each score begin, shape (groups,), int64.
    sizes, true_sizes
        Number of items of each key, and of true ones, shape (keys,).
    """

    keys: np.ndarray
    truth: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    true_sizes: np.ndarray

    def scores(self, weights: np.ndarray) -> dict[str, float]:
        """Return :meth:`Ranking.scores` for the weights of the keys, shape (keys,)."""
        weights = np.asarray(weights, dtype=np.float64)[: len(self.sizes)]
        total, num_true = float(weights @ self.sizes), float(weights @ self.true_sizes)
        if num_true in (0, total):
            return dict.fromkeys(RANKING_METRICS, np.nan)
        walk = _walk(len(self.keys)) or _walk_by_numpy
        area, precision, hits = walk(self.keys, self.truth, self.starts, weights, num_true)
        density = num_true / total
        auroc, auprc = area / (num_true * (total - num_true)), precision / num_true
        values = (auroc, auprc, auprc / density, hits / num_true / density)
        return {name: float(value) for name, value in zip(RANKING_METRICS, values, strict=True)}


def _walk_by_numpy(
    keys: np.ndarray, truth: np.ndarray, starts: np.ndarray, weights: np.ndarray, num_true: float
) -> tuple[float, float, float]:
    counted = weights[keys]
    size, true_size = np.add.reduceat(counted, starts), np.add.reduceat(counted * truth, starts)
    until, true_until = np.cumsum(size), np.cumsum(true_size)
    before = true_until - true_size
    area = ((size - true_size) * (before + true_size / 2)).sum()
    precision = (true_size * true_until / np.maximum(until, 1)).sum()
    last = int(np.searchsorted(until, num_true))  # the group in which the first k items end
    return area, precision, before[last] + true_size[last] * (num_true - until[last] + size[last]) / size[last]


@compiled
def _walk(keys, truth, starts, weights, num_true):
    area, precision, hits = 0.0, 0.0, -1.0
    until, true_until = 0.0, 0.0
    for group in range(len(starts)):
        end = starts[group + 1] if group + 1 < len(starts) else len(keys)
        size, true_size = 0.0, 0.0
        for place in range(starts[group], end):
            size += weights[keys[place]]
            if truth[place]:
                true_size += weights[keys[place]]
        area += (size - true_size) * (true_until + true_size / 2)
        until += size
        if hits < 0 and until >= num_true:  # the group in which the first k items end
            hits = true_until + true_size * (num_true - until + size) / size
        true_until += true_size
        if true_size > 0:
            precision += true_size * true_until / until
    return area, precision, hits
