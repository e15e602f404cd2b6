"""The order of equal scores."""

from __future__ import annotations

from typing import Literal

import numpy as np

__all__ = ["Ties", "by_score", "by_slot"]

#: What decides between equal scores: the token id, the column of the file, or whatever ``np.argsort`` makes of them.
Ties = Literal["token", "stable", "numpy"]


def by_slot(cells: np.ndarray, slots: np.ndarray, *, num_slots: int) -> np.ndarray:
    """Return the order of entries by cell, and within a cell by slot, shape (E,).

    Parameters
    ----------
    cells
        Cell of each entry, shape (E,), int64.
    slots
        Place of each entry's gene among all genes, shape (E,), integer.
    num_slots
        Number of places.
    """
    keys = cells * num_slots + slots
    if (keys[1:] >= keys[:-1]).all():
        return np.arange(len(keys))
    return np.argsort(keys, kind="stable")


def by_score(scores: np.ndarray, lengths: np.ndarray, ties: Ties) -> np.ndarray:
    """Return the order of entries by score, the highest of each cell first, shape (E,).

    Parameters
    ----------
    scores
        Score of each entry, those of a cell together, shape (E,), float; NaN comes last.
    lengths
        Entries of each cell, shape (n,), int64.
    ties
        ``numpy`` sorts as ``np.argsort(-scores)`` does for each cell by itself, and so depends on the processor; the
        others leave equal scores in the order they come in.
    """
    starts = np.cumsum(lengths) - lengths
    if ties == "numpy":  # an unstable sort gives other answers for cells side by side than for each alone
        parts = [
            start + np.argsort(-scores[start : start + length])
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
        ]
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts])
    is_filled = np.arange(int(lengths.max(initial=0))) < lengths[:, None]
    keys = np.full(is_filled.shape, np.nan)
    keys[is_filled] = -scores
    return np.asarray((np.argsort(keys, axis=1, kind="stable") + starts[:, None])[is_filled])
