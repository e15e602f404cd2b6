"""Scores as numbers. Each is a function of a table of counts or a mean over cells, so that a bootstrap is cheap.

Tables have the shape (..., R, C): leading axes are resamples, rows the true labels, columns clusters or predicted
labels. For predictions rows and columns are the same labels in the same order.
"""

from __future__ import annotations

import numpy as np

from scmodelforge.data.draws import generator

__all__ = [
    "MANY_RESAMPLES",
    "RESAMPLES",
    "accuracy",
    "adjusted_rand_index",
    "balanced_accuracy",
    "bootstrap_mean",
    "bootstrap_tables",
    "cohen_kappa",
    "count_table",
    "interval",
    "macro_f1",
    "normalized_mutual_information",
    "weighted_f1",
]

RESAMPLES = 200
"""Draws of intervals where each draw counts all cells anew."""

MANY_RESAMPLES = 1000
"""Draws of intervals where each is a sum of few numbers: the ends of 95 % then stand on 25 draws each, not on five."""


def count_table(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Count the cells of each pair of codes, shape (R, C), int64."""
    counts: np.ndarray = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1])
    return counts.reshape(shape)


def accuracy(table: np.ndarray) -> np.ndarray:
    """Return the share of cells on the diagonal."""
    return np.asarray(_diagonal(table).sum(-1) / table.sum((-2, -1)))


def balanced_accuracy(table: np.ndarray) -> np.ndarray:
    """Return the mean recall over the labels that have cells."""
    sizes = table.sum(-1)
    return _mean_where(_diagonal(table), sizes, sizes > 0)


def macro_f1(table: np.ndarray) -> np.ndarray:
    """Return the mean F1 over the labels that are true or predicted somewhere."""
    both = table.sum(-1) + table.sum(-2)
    return _mean_where(2 * _diagonal(table), both, both > 0)


def weighted_f1(table: np.ndarray) -> np.ndarray:
    """Return the mean F1 of the labels, weighted by their true number of cells."""
    sizes = table.sum(-1)
    both = np.maximum(sizes + table.sum(-2), 1)
    return np.asarray((sizes * 2 * _diagonal(table) / both).sum(-1) / sizes.sum(-1))


def cohen_kappa(table: np.ndarray) -> np.ndarray:
    """Return Cohen's kappa; NaN if all cells have one label and are given it."""
    total = table.sum((-2, -1)).astype(np.float64)
    by_chance = (table.sum(-1) * table.sum(-2)).sum(-1) / total**2
    return _ratio(accuracy(table) - by_chance, 1 - by_chance, otherwise=np.nan)


def normalized_mutual_information(table: np.ndarray) -> np.ndarray:
    """Return the mutual information over the arithmetic mean of both entropies; 1 if neither side is split."""
    joint = table / table.sum((-2, -1), keepdims=True)
    rows, columns = joint.sum(-1), joint.sum(-2)
    entropies = _entropy(rows) + _entropy(columns)
    information = entropies - _entropy(joint.reshape(*joint.shape[:-2], -1))
    return np.asarray(np.clip(_ratio(2 * information, entropies, otherwise=1.0), 0.0, 1.0))


def adjusted_rand_index(table: np.ndarray) -> np.ndarray:
    """Return the Rand index adjusted for chance (Hubert & Arabie 1985, doi:10.1007/BF01908075)."""
    total = _pairs(table.sum((-2, -1)))
    together = _pairs(table).sum((-2, -1))
    rows, columns = _pairs(table.sum(-1)).sum(-1), _pairs(table.sum(-2)).sum(-1)
    by_chance = _ratio(rows * columns, total, otherwise=0.0)
    return _ratio(together - by_chance, (rows + columns) / 2 - by_chance, otherwise=1.0)


def bootstrap_tables(table: np.ndarray, *, seed: int, purpose: str, resamples: int = RESAMPLES) -> np.ndarray:
    """Return tables of resampled cells, shape (resamples, R, C).

    Drawing n cells with replacement and counting them is one draw from a multinomial over the entries of the table.
    """
    total = table.sum()
    draws = generator(seed, "bootstrap", purpose).multinomial(total, table.ravel() / total, size=resamples)
    return draws.reshape(resamples, *table.shape)


def bootstrap_mean(
    values: np.ndarray, *, seed: int, purpose: str, groups: np.ndarray | None = None, resamples: int = RESAMPLES
) -> np.ndarray:
    """Return means of resampled values, shape (resamples,).

    Parameters
    ----------
    values
        One for each cell, shape (n,).
    seed, purpose
        Base of the draws.
    groups
        Codes 0 to K - 1, shape (n,): the mean is that of the groups' means, and cells are drawn inside their group.
    resamples
        How many.
    """
    random = generator(seed, "bootstrap", purpose)
    groups = np.zeros(len(values), dtype=np.int64) if groups is None else groups
    parts = [values[groups == group] for group in np.unique(groups)]
    draws = [[part[random.integers(len(part), size=len(part))].mean() for part in parts] for _ in range(resamples)]
    return np.asarray(np.mean(draws, axis=1))


def interval(draws: np.ndarray, *, around: float | None = None) -> list[float] | None:
    """Return the middle 95 % of bootstrap values as [low, high]; ``None`` if none is defined.

    Parameters
    ----------
    draws
        Scores of resamples, shape (resamples,); NaN where not defined.
    around
        Move the draws so that this is their mean, and cut them off at 1. For scores of pairs of cells: a resample
        holds cells twice, and a cell always agrees with its copy, which lifts every draw.
    """
    draws = draws[np.isfinite(draws)]
    if len(draws) == 0:
        return None
    if around is not None:
        draws = np.minimum(draws - draws.mean() + around, 1.0)
    return [float(bound) for bound in np.percentile(draws, [2.5, 97.5])]


def _diagonal(table: np.ndarray) -> np.ndarray:
    return np.diagonal(table, axis1=-2, axis2=-1)


def _mean_where(numerator: np.ndarray, denominator: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return np.asarray(_ratio(numerator, denominator, otherwise=0.0).sum(-1) / chosen.sum(-1))


def _entropy(shares: np.ndarray) -> np.ndarray:
    return np.asarray(-(shares * np.log(np.where(shares > 0, shares, 1))).sum(-1))


def _pairs(counts: np.ndarray) -> np.ndarray:
    counts = np.asarray(counts, dtype=np.float64)
    return np.asarray(counts * (counts - 1) / 2)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, *, otherwise: float) -> np.ndarray:
    is_defined = np.asarray(denominator) != 0
    return np.where(is_defined, numerator / np.where(is_defined, denominator, 1), otherwise)
