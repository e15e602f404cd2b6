"""The width of each cell's kernel, found by bisection: as LISI and UMAP both do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["bisect_rows", "near_one"]

_USUAL = 2.0**20  # distances within this factor of 1 are as they are: the bisection starts at 1


def bisect_rows(
    distance_to_target: Callable[[np.ndarray, np.ndarray], np.ndarray], num_rows: int, *, tolerance: float, steps: int
) -> np.ndarray:
    """Return for each row the number at which an increasing function meets its target, shape (num_rows,).

    Each starts at 1, is doubled until the target lies below, and from then on the interval that holds it is halved.
    A lower end that is not known yet is 0.

    Parameters
    ----------
    distance_to_target
        Gets rows and a number for each of them, and returns function minus target.
    num_rows
        Number of rows.
    tolerance
        A row is done when it is no further than this from its target.
    steps
        Most steps.
    """
    value = np.ones(num_rows)
    low, high = np.zeros(num_rows), np.full(num_rows, np.inf)
    rows = np.arange(num_rows)
    for _ in range(steps):
        gap = distance_to_target(rows, value[rows])
        is_open = np.abs(gap) >= tolerance
        rows, gap = rows[is_open], gap[is_open]
        if len(rows) == 0:
            break
        is_above = gap > 0
        high[rows[is_above]] = value[rows[is_above]]
        low[rows[~is_above]] = value[rows[~is_above]]
        bounded = np.isfinite(high[rows])
        value[rows] = np.where(bounded, (low[rows] + np.where(bounded, high[rows], 0)) / 2, value[rows] * 2)
    return value


def near_one(distances: np.ndarray) -> np.ndarray:
    """Return distances of which rows far from 1 are divided by a power of two, that of their largest.

    Weights that depend on distances over a width are the same, and the bisection reaches the width in its steps.

    Parameters
    ----------
    distances
        Shape (n, k), not below 0; infinite where there is no neighbour.
    """
    largest = np.where(np.isfinite(distances), distances, 0).max(axis=1, initial=0.0)
    is_far = (largest > 0) & ((largest > _USUAL) | (largest < 1 / _USUAL))
    if not is_far.any():
        return distances
    exponents = np.where(is_far, np.frexp(largest)[1], 0)
    return np.asarray(np.ldexp(distances, -exponents[:, None]))
