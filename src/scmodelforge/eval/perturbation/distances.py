"""Distances between two groups of cells in the space of genes, as pertpy 1.0.3 and scperturb 0.1.0 define them.

The energy distance has two scales that must not be mixed: pertpy and cell-eval average plain Euclidean distances over
all pairs, a cell's zero distance to itself included; scperturb (and with it PerturBench) averages squared ones over
pairs of different cells.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scmodelforge.data.draws import mix
from scmodelforge.eval.perturbation.cells import Block, Expression, dense, dense_blocks, moments, remembered_of
from scmodelforge.eval.perturbation.conditions import Group
from scmodelforge.eval.perturbation.means import cosine, mae, mse, pearson, r2, spearman

__all__ = ["DISTANCES", "MOST_CELLS", "edistance", "edistance_scperturb", "mean_pairwise"]

MOST_CELLS = 1000
"""Cells of a group whose distances to other cells are taken; of more, so many are drawn."""

_BLOCK_VALUES = 2**23
_EPSILON = 1e-8  # added by pertpy to variances and standard deviations


def edistance(first: Expression, one: Group, second: Expression, other: Group) -> float:
    """Return 2 E|x - y| - E|x - x'| - E|y - y'| of two groups, Euclidean, all pairs (pertpy, cell-eval)."""
    between = mean_pairwise(first, one, second, other)
    return 2 * between - _within(first, one) - _within(second, other)


def mean_pairwise(first: Expression, one: Group, second: Expression, other: Group) -> float:
    """Return the mean Euclidean distance of a cell of one group to a cell of the other."""
    ours, theirs = _points(first, one), _points(second, other)
    return _mean_distance(ours, theirs, is_same=ours is theirs)


def edistance_scperturb(first: Expression, one: Group, second: Expression, other: Group) -> float:
    """Return the energy distance with squared Euclidean distances and each group's own n (n - 1) pairs (scperturb)."""
    ours, theirs = moments(first, one), moments(second, other)
    spread = [each[1].sum() for each in (ours, theirs)]  # of a sample: half the mean squared distance within
    sizes = first.size(one), second.size(other)
    biased = [value * (1 - 1 / size) for value, size in zip(spread, sizes, strict=True)]
    between = ((ours[0] - theirs[0]) ** 2).sum() + sum(biased)
    return float(2 * between - 2 * sum(spread))


def _t_test(first: Expression, one: Group, second: Expression, other: Group) -> float:
    ours, theirs = moments(first, one), moments(second, other)
    error = (ours[1] + _EPSILON) / first.size(one) + (theirs[1] + _EPSILON) / second.size(other)
    return float((np.abs(ours[0] - theirs[0]) / np.sqrt(error)).mean())


def _symmetric_kl(first: Expression, one: Group, second: Expression, other: Group) -> float:
    (our_mean, ours), (their_mean, theirs) = moments(first, one), moments(second, other)
    ours = (np.sqrt(ours * (1 - 1 / first.size(one))) + _EPSILON) ** 2
    theirs = (np.sqrt(theirs * (1 - 1 / second.size(other))) + _EPSILON) ** 2
    gap = (our_mean - their_mean) ** 2
    return float(((ours + gap) / (2 * theirs) + (theirs + gap) / (2 * ours) - 1).mean())


def _kolmogorov_smirnov(first: Expression, one: Group, second: Expression, other: Group) -> float:
    ours, theirs = first.cells(one), second.cells(other)
    sizes = ours.shape[0], theirs.shape[0]
    total = 0.0
    for genes in dense_blocks(ours.shape[1], sum(sizes)):
        values = np.concatenate([dense(ours[:, genes]), dense(theirs[:, genes])]).T
        order = np.argsort(values, axis=1, kind="stable")
        steps = np.cumsum(np.where(order < sizes[0], 1 / sizes[0], -1 / sizes[1]), axis=1)
        values = np.take_along_axis(values, order, axis=1)
        is_last = np.concatenate([values[:, 1:] != values[:, :-1], np.ones((len(values), 1), bool)], axis=1)
        total += np.abs(np.where(is_last, steps, 0.0)).max(axis=1).sum()
    return total / ours.shape[1]


def _of_means(metric: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[..., float]:
    def distance(first: Expression, one: Group, second: Expression, other: Group) -> float:
        return float(metric(first.mean(one), second.mean(other)))

    return distance


DISTANCES: dict[str, Callable[[Expression, Group, Expression, Group], float]] = {
    "edistance": edistance,
    "edistance_scperturb": edistance_scperturb,
    "mmd_linear": _of_means(lambda x, y: ((x - y) ** 2).sum()),
    "euclidean": _of_means(lambda x, y: np.sqrt(((x - y) ** 2).sum())),
    "mse": _of_means(mse),
    "mean_absolute_error": _of_means(mae),
    "pearson_distance": _of_means(lambda x, y: 1 - pearson(x, y)),
    "spearman_distance": _of_means(lambda x, y: 1 - spearman(x, y)),
    "cosine_distance": _of_means(lambda x, y: 1 - cosine(x, y)),
    "r2_distance": _of_means(lambda x, y: 1 - r2(y, x)),  # of the first as truth
    "mean_pairwise": mean_pairwise,
    "t_test": _t_test,
    "sym_kldiv": _symmetric_kl,
    "ks_test": _kolmogorov_smirnov,
}
"""Distances by their names in pertpy, of two groups of cells each. 0 is best for all but ``mean_pairwise``.

Its ``root_mean_squared_error`` is ``euclidean`` (not divided by the number of genes), its ``mmd`` with the linear
kernel ``mmd_linear``. Not here are those that fit a model or solve a transport problem.
"""


def _within(cells: Expression, group: Group) -> float:
    def compute() -> float:
        points = _points(cells, group)
        return _mean_distance(points, points, is_same=True)

    return remembered_of(cells, "within", group, compute)


def _points(cells: Expression, group: Group) -> Block:
    def compute() -> Block:
        block = cells.cells(group)
        if block.shape[0] <= MOST_CELLS:
            return block
        draws = mix(0, "cells of a distance", np.arange(block.shape[0]))
        return block[np.sort(np.argsort(draws, kind="stable")[:MOST_CELLS])]

    # The control is asked for with every perturbation; others would fill the memory.
    return remembered_of(cells, "points", group, compute) if group == group.control else compute()


def _mean_distance(ours: Block, theirs: Block, *, is_same: bool) -> float:
    """Return the mean of all distances, in blocks of rows: there is never one for every pair of cells."""
    step = max(1, _BLOCK_VALUES // ours.shape[1])
    total = 0.0
    for start in range(0, ours.shape[0], step):
        left = dense(ours[start : start + step])
        for place in range(start if is_same else 0, theirs.shape[0], step):
            right = left if is_same and place == start else dense(theirs[place : place + step])
            distances = _distances(left, right)
            if is_same and place == start:
                np.fill_diagonal(distances, 0.0)
            total += distances.sum() * (2 if is_same and place > start else 1)
    return float(total / (ours.shape[0] * theirs.shape[0]))


def _distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2 * (left @ right.T)
    return np.sqrt(np.maximum(squares, 0))
