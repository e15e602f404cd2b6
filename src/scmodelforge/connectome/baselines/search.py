"""Hyperparameters chosen inside training, by the same rule as the final score: on regions that were held out."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TypeVar

import numpy as np

from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.splits import folds_of_regions
from scmodelforge.data.draws import mix

__all__ = ["best_candidate", "inner_folds"]

_NUM_FOLDS = 5
_FEWEST_IN_A_FOLD = 3  # regions, of which there are then three pairs

C = TypeVar("C", bound=Hashable)

PredictAll = Callable[[np.ndarray, np.ndarray], Mapping[C, np.ndarray]]
"""Fit all candidates on some items and return what each predicts for others."""


def inner_folds(
    data: RegionPairDataset, indices: np.ndarray, *, seed: int, strategy: str = "random", num_folds: int = _NUM_FOLDS
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Split items of training by their regions, again and again: items to fit on, and items of held-out regions.

    Items with one region of either side are in neither. Folds with nothing on one side are left out.
    """
    pairs = data.pairs(indices)
    regions = np.unique(pairs)
    num_folds = max(min(num_folds, len(regions) // _FEWEST_IN_A_FOLD), 2)
    seed = int(mix(seed, "inner folds of regions")) % 2**32
    fold_of = folds_of_regions(data, regions, num_folds, strategy=strategy, seed=seed)
    for fold in range(num_folds):
        held = np.isin(pairs, regions[fold_of == fold]).sum(axis=1)
        if (held == 0).any() and (held == 2).any():
            yield indices[held == 0], indices[held == 2]


def best_candidate(
    data: RegionPairDataset,
    indices: np.ndarray,
    predict_all: PredictAll[C],
    default: C,
    *,
    seed: int,
    strategy: str = "random",
    num_folds: int = _NUM_FOLDS,
) -> C:
    """Return the candidate with the least squared error over the inner folds; ``default`` if there are no folds.

    Predictions that are not finite count as the worst.

    Parameters
    ----------
    data
        Pairs of regions.
    indices
        Items of training.
    predict_all
        Fits and predicts, for all candidates at once, so that they can share work.
    default
        Candidate where there are too few regions to compare any.
    seed
        Base of the folds.
    strategy
        What the folds hold out together, one of :data:`~scmodelforge.connectome.splits.STRATEGIES`.
    num_folds
        How many folds of regions.
    """
    errors: dict[C, float] = {}
    for train, held in inner_folds(data, indices, seed=seed, strategy=strategy, num_folds=num_folds):
        true = data.targets(held)
        for candidate, found in predict_all(train, held).items():
            errors[candidate] = errors.get(candidate, 0.0) + float(((found - true) ** 2).sum())
    ranks = {candidate: error if math.isfinite(error) else math.inf for candidate, error in errors.items()}
    return min(ranks, key=ranks.__getitem__) if ranks else default
