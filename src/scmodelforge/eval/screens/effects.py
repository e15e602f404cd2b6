"""Effects of perturbations on the embedding of a cell, each compared with those of random genes in the same cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from scmodelforge.eval.screens.plan import CellPlan, GeneSet, Screen

__all__ = ["CellEffects", "cell_effects", "cosines"]


@dataclass(frozen=True)
class CellEffects:
    """Effects in one cell, each array of shape (n,) with an entry for each perturbation that can be made in it.

    Attributes
    ----------
    cell
        Position of the cell in its source.
    tested
        Number of each perturbation in the screen.
    shift
        1 - cosine of the embedding before and after.
    goal_shift
        Cosine with the goal after, minus before; ``None`` without a goal.
    random
        Mean effect of random genes, as many together, in this cell: on ``goal_shift`` if there is a goal, else on
        ``shift``. NaN where there are none.
    deviation, variance
        Rank of the perturbation's effect among those of the random genes, less its expectation were it one of them; and
        the variance of that. Both 0 without random genes.
    """

    cell: int
    tested: np.ndarray
    shift: np.ndarray
    goal_shift: np.ndarray | None
    random: np.ndarray
    deviation: np.ndarray
    variance: np.ndarray


def cell_effects(
    cell: int, screen: Screen, plan: CellPlan, shift: np.ndarray, goal_shift: np.ndarray | None
) -> CellEffects:
    """Compare the effects in a cell.

    Parameters
    ----------
    cell
        Position of the cell.
    screen, plan
        What was done.
    shift, goal_shift
        Effects of ``plan.tested``, then of ``plan.random``, size after size, shape (n + R,).
    """
    count = len(plan.tested)
    measure = shift if goal_shift is None else goal_shift
    sets = [screen.sets[number] for number in plan.tested]
    sizes = np.array([len(genes) for genes in sets])
    random, deviation, variance = np.full(count, np.nan), np.zeros(count), np.zeros(count)
    start = count
    for size, drawn in plan.random.items():
        own, others = np.flatnonzero(sizes == size), measure[start : start + len(drawn)]
        start += len(drawn)
        found = _compared(measure[own], [sets[i] for i in own], others, drawn)
        random[own], deviation[own], variance[own] = found
    goal = None if goal_shift is None else goal_shift[:count]
    return CellEffects(cell, plan.tested, shift[:count], goal, random, deviation, variance)


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows, float64; 1 for equal ones, whatever their length."""
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    found = np.divide((first * second).sum(axis=-1), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return np.where((first == second).all(axis=-1), 1.0, np.clip(found, -1, 1))


def _compared(
    values: np.ndarray, sets: Sequence[GeneSet], others: np.ndarray, drawn: Sequence[GeneSet]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean of the others, deviation and variance of the rank; a set is not compared with itself."""
    if not len(others):
        return np.full(len(values), np.nan), np.zeros(len(values)), np.zeros(len(values))
    ranks = rankdata(np.column_stack([values, np.tile(others, (len(values), 1))]), axis=1)
    random, deviation, variance = np.full(len(values), others.mean()), *_rank_of_first(ranks)
    place = {genes: number for number, genes in enumerate(drawn)}
    for number, genes in enumerate(sets):
        if genes in place:
            rest = np.delete(others, place[genes])
            random[number] = rest.mean() if len(rest) else np.nan
            one = rankdata(np.append(values[number], rest))[None]
            deviation[number], variance[number] = (each[0] for each in _rank_of_first(one))
    return random, deviation, variance


def _rank_of_first(ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far the first rank of each row is from their mean, and the variance of a rank drawn from the row."""
    return ranks[:, 0] - ranks.mean(axis=1), ranks.var(axis=1)
