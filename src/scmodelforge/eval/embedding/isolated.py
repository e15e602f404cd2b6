"""Labels that few batches have, which integration loses first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scmodelforge.eval.metrics import count_table

__all__ = ["best_f1", "isolated_labels"]


def isolated_labels(labels: np.ndarray, batches: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the codes of the labels found in the fewest batches, and whether these are fewer than all batches.

    Parameters
    ----------
    labels, batches
        Codes, shape (n,).
    """
    pairs = np.unique(np.stack([labels, batches], axis=1), axis=0)
    codes, counts = np.unique(pairs[:, 0], return_counts=True)
    return codes[counts == counts.min()], bool(counts.min() < len(np.unique(batches)))


def best_f1(labels: np.ndarray, label: int, clusterings: Sequence[np.ndarray]) -> float:
    """Return the best F1 of any cluster of any clustering, taken for the cells of a label."""
    is_label = (labels == label).astype(np.int64)
    best = 0.0
    for clusters in clusterings:
        table = count_table(is_label, clusters, (2, int(clusters.max()) + 1))
        best = max(best, float((2 * table[1] / (table.sum(axis=0) + is_label.sum())).max()))
    return best
