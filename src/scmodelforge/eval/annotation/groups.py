"""Groups of cells, such as donors and batches: intervals that draw them whole, and folds that hold them out whole."""

from __future__ import annotations

import numpy as np

from scmodelforge.data.draws import generator
from scmodelforge.eval.base import BenchmarkInputs
from scmodelforge.eval.cells import Cells
from scmodelforge.eval.groups import draw_groups
from scmodelforge.eval.metrics import RESAMPLES

__all__ = ["cell_weights", "group_counts", "group_folds", "group_weights", "groups_of"]

_MOST_FOLDS = 5


def groups_of(cells: Cells, inputs: BenchmarkInputs) -> tuple[np.ndarray | None, str | None, str]:
    """Return the group of each cell, the obs column, and whether these are ``group`` or ``batch``.

    Groups are the cells' own, else their batches, else ``None``.
    """
    if cells.groups is not None:
        return cells.groups, inputs.group_key, "group"
    return cells.batches, inputs.batch_key if cells.batches is not None else None, "batch"


def cell_weights(num_cells: int, seed: int) -> np.ndarray:
    """Return how often each cell is drawn, shape (n, resamples), when as many cells are drawn as there are.

    The draws are the same for all representations and probes of the same cells.
    """
    random = generator(seed, "bootstrap", "annotation")
    drawn = [np.bincount(random.integers(num_cells, size=num_cells), minlength=num_cells) for _ in range(RESAMPLES)]
    return np.array(drawn, dtype=np.float32).T


def group_weights(groups: np.ndarray | None, seed: int) -> np.ndarray | None:
    """Return how often each cell is drawn, shape (n, resamples), when whole groups are drawn; ``None`` below three.

    Parameters
    ----------
    groups
        Group of each cell, shape (n,), str; those without a group are never drawn.
    seed
        Seed of the draws.
    """
    if groups is None:
        return None
    drawn = draw_groups(groups, "bootstrap", "annotation groups", seed=seed, resamples=RESAMPLES)
    if drawn is None:
        return None
    weights = np.zeros((len(groups), RESAMPLES), dtype=np.float32)
    weights[drawn.is_known] = drawn.times.T[drawn.codes]
    return weights


def group_counts(groups: np.ndarray | None) -> dict[str, int]:
    """Return ``num_groups``, and ``num_without_group`` if a cell has none; nothing without a column of groups."""
    if groups is None:
        return {}
    num_without = int((groups == "").sum())
    counts = {"num_groups": len(np.unique(groups[groups != ""]))}
    return counts | ({"num_without_group": num_without} if num_without else {})


def group_folds(groups: np.ndarray) -> np.ndarray:
    """Return the fold of each cell, shape (n,), so that groups stay whole and folds have about as many cells.

    The largest group goes first, each to the fold with the fewest cells so far; there are five folds, or as many as
    groups.
    """
    names, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    loads = np.zeros(min(_MOST_FOLDS, len(names)), dtype=np.int64)
    fold_of = np.zeros(len(names), dtype=np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        fold_of[group] = loads.argmin()
        loads[fold_of[group]] += sizes[group]
    return np.asarray(fold_of[codes])
