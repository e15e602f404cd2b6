"""How many batches or labels a cell's neighbourhood holds (LISI, Korsunsky et al. 2019, doi:10.1038/s41592-019-0619-0).

The neighbours of a cell get Gaussian weights p whose perplexity is a third of their number. 1 over the sum, over
batches, of squared weights is 1 where all neighbours are of one batch, and the number of batches where all are alike.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scmodelforge.eval.embedding._bandwidth import bisect_rows, near_one
from scmodelforge.eval.embedding._paths import walk_graph
from scmodelforge.eval.neighbors import Neighbors

__all__ = ["LISI_NEIGHBORS", "graph_neighbors", "lisi", "neighbor_weights", "scaled_batch_lisi", "scaled_label_lisi"]

LISI_NEIGHBORS = 90
_TOLERANCE, _STEPS = 1e-5, 50
_ROWS = 4096  # cells at a time


def scaled_batch_lisi(values: np.ndarray, num_batches: int) -> np.ndarray:
    """Bring LISI of batches to 0 (one batch) to 1 (all batches alike)."""
    return (values - 1) / (num_batches - 1)


def scaled_label_lisi(values: np.ndarray, num_labels: int) -> np.ndarray:
    """Bring LISI of labels to 0 (all labels alike) to 1 (one label)."""
    return (num_labels - values) / (num_labels - 1)


def lisi(weights: np.ndarray, indices: np.ndarray, codes: np.ndarray, num_codes: int) -> np.ndarray:
    """Return the inverse Simpson index of each cell's neighbourhood, shape (n,); NaN without neighbours.

    Parameters
    ----------
    weights, indices
        Weight of each neighbour (rows sum to 1, or to 0 if there is none), and which cell it is; shape (n, k).
    codes
        Batch or label of each cell, shape (n,), below ``num_codes``.
    num_codes
        Number of batches or labels.
    """
    rows = np.repeat(np.arange(len(weights)), weights.shape[1])
    slots = rows * num_codes + codes[indices].ravel()
    sums = np.bincount(slots, weights.ravel(), minlength=len(weights) * num_codes).reshape(-1, num_codes)
    simpson = (sums**2).sum(axis=1)
    return np.where(simpson > 0, 1 / np.where(simpson > 0, simpson, 1), np.nan)


def neighbor_weights(neighbors: Neighbors, *, perplexity: float | None = None) -> np.ndarray:
    """Return the weights of each cell's neighbours, shape (n, k); that of the cell itself is 0.

    Parameters
    ----------
    neighbors
        k of each cell, itself included. An index of -1 marks a place without a neighbour.
    perplexity
        Effective number of neighbours; ``None`` is floor(k / 3).
    """
    num_cells, k = neighbors.indices.shape
    target = np.log(k // 3 if perplexity is None else perplexity)
    is_other = (neighbors.indices != np.arange(num_cells)[:, None]) & (neighbors.indices >= 0)
    weights = np.empty(neighbors.distances.shape)
    for begin in range(0, num_cells, _ROWS):
        part = slice(begin, begin + _ROWS)
        weights[part] = _weights(neighbors.distances[part], is_other[part], target)
    return weights


def _weights(distances: np.ndarray, is_other: np.ndarray, target: float) -> np.ndarray:
    distances = near_one(distances)

    def entropy_gap(rows: np.ndarray, sharpness: np.ndarray) -> np.ndarray:
        raw = np.exp(-distances[rows] * sharpness[:, None]) * is_other[rows]
        total = raw.sum(axis=1)
        divisor = np.where(total > 0, total, 1)
        entropy = np.log(divisor) + sharpness * (distances[rows] * raw).sum(axis=1) / divisor
        return target - np.where(total > 0, entropy, 0.0)  # entropy falls as the kernel gets sharper

    with np.errstate(over="ignore", under="ignore"):
        sharpness = bisect_rows(entropy_gap, len(distances), tolerance=_TOLERANCE, steps=_STEPS)
        raw = np.exp(-distances * sharpness[:, None]) * is_other
    total = raw.sum(axis=1, keepdims=True)
    return raw / np.where(total > 0, total, 1)


def graph_neighbors(graph: sp.csr_matrix, k: int) -> Neighbors:
    """Return the ``k`` cells nearest to each by paths along the edges, itself left out; -1 where there are no more.

    The length of an edge is its weight, as in scib, although UMAP's weights are large between near cells.

    Parameters
    ----------
    graph
        CSR (n, n), symmetric.
    k
        Neighbours.
    """
    num_cells = graph.shape[0]
    indices = np.full((num_cells, k), -1, dtype=np.int64)
    distances = np.zeros((num_cells, k))
    walk_graph(graph.indptr, graph.indices, graph.data, indices, distances)
    return Neighbors(indices, distances)
