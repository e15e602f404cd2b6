"""Is a prediction closest to its own perturbation? Ranks among all perturbations of a covariate, in both directions.

PerturBench asks it of each real perturbation (which prediction is nearest, 0 is best), cell-eval of each prediction
(which real perturbation is nearest, 1 is best). Ties count half, so that a constant prediction is at chance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from scmodelforge.eval.perturbation.means import cosine

__all__ = ["ALONE", "Distance", "distances_to", "own_rank", "ranks_within"]

#: Why a perturbation has no rank.
ALONE = "no other perturbation of its covariate is scored, so there is nothing to rank it among"

Distance = Literal["l1", "l2", "cosine"]

_BLOCK_VALUES = 2**22


def distances_to(point: np.ndarray, others: np.ndarray, distance: Distance) -> np.ndarray:
    """Return the distance of one row to each of several, shape (Q,); 1 for a cosine that is not defined."""
    if distance == "cosine":
        similarity = cosine(np.broadcast_to(point, others.shape), others)
        return 1 - np.where(np.isnan(similarity), 0.0, similarity)
    step = max(1, _BLOCK_VALUES // others.shape[1])
    found = np.empty(len(others))
    for start in range(0, len(others), step):
        difference = others[start : start + step] - point
        sums = np.abs(difference) if distance == "l1" else difference**2
        found[start : start + step] = sums.sum(axis=1)
    return found if distance == "l1" else np.sqrt(found)


def own_rank(distances: np.ndarray, own: int) -> float:
    """Return how many others are nearer than one's own, over the number of all; one as near counts half."""
    nearer = np.count_nonzero(distances < distances[own])
    as_near = np.count_nonzero(distances == distances[own]) - 1
    return (nearer + as_near / 2) / len(distances)


def ranks_within(covariates: np.ndarray, distances: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the rank of each perturbation among those of its covariate, 0 is nearest, shape (P,); NaN if it is alone.

    Parameters
    ----------
    covariates
        Covariate of each perturbation, shape (P,).
    distances
        Gives the distances of a perturbation to some perturbations, by their numbers.
    """
    found = np.full(len(covariates), np.nan)
    for covariate in np.unique(covariates):
        rows = np.flatnonzero(covariates == covariate)
        if len(rows) < 2:
            continue
        for place, row in enumerate(rows):
            found[row] = own_rank(distances(int(row), rows), place)
    return found
