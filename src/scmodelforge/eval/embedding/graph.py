"""The graph of neighbours with UMAP's weights (McInnes, Healy & Melville 2018, arXiv:1802.03426).

It is what ``sc.pp.neighbors`` calls connectivities: each cell gives its neighbours weights that fall off from the
nearest one, such that they sum to log2(k), and the weights of both directions are joined as a + b - ab.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scmodelforge.eval.embedding._bandwidth import bisect_rows, near_one
from scmodelforge.eval.neighbors import Neighbors

__all__ = ["directed_graph", "umap_connectivities"]

_TOLERANCE, _STEPS = 1e-5, 64
_LEAST = 1e-3  # the width is at least this share of the mean distance


def umap_connectivities(neighbors: Neighbors) -> sp.csr_matrix:
    """Return the symmetric weights of the edges between neighbours, CSR (n, n), float64.

    Parameters
    ----------
    neighbors
        k of each cell, itself included.
    """
    num_cells, k = neighbors.distances.shape
    distances = near_one(neighbors.distances)
    nearest, width = _nearest_and_width(distances)
    beyond = np.maximum(distances - nearest[:, None], 0)
    weights = np.where(beyond > 0, np.exp(-beyond / np.where(width > 0, width, 1)[:, None]), 1.0)
    weights[neighbors.indices == np.arange(num_cells)[:, None]] = 0
    offsets = np.arange(0, num_cells * k + 1, k)
    directed = sp.csr_matrix((weights.ravel(), neighbors.indices.ravel(), offsets), shape=(num_cells, num_cells))
    directed.eliminate_zeros()
    back = directed.T.tocsr()
    joined = (directed + back - directed.multiply(back)).tocsr()
    joined.sort_indices()
    return joined


def directed_graph(neighbors: Neighbors) -> sp.csr_matrix:
    """Return an edge from each cell to each of its neighbours, also to one at no distance; CSR (n, n)."""
    num_cells, k = neighbors.indices.shape
    offsets = np.arange(0, num_cells * k + 1, k)
    ones = np.ones(num_cells * k, dtype=np.int8)
    return sp.csr_matrix((ones, neighbors.indices.ravel(), offsets), shape=(num_cells, num_cells))


def _nearest_and_width(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of the nearest cell that is not at the same place, and the width of the kernel."""
    num_cells, k = distances.shape
    is_apart = distances > 0
    nearest = np.where(is_apart.any(axis=1), np.where(is_apart, distances, np.inf).min(axis=1), 0.0)
    others = np.maximum(distances[:, 1:] - nearest[:, None], 0)

    def gap(rows: np.ndarray, widths: np.ndarray) -> np.ndarray:
        return np.exp(-others[rows] / widths[:, None]).sum(axis=1) - np.log2(k)

    with np.errstate(over="ignore", under="ignore"):
        width = bisect_rows(gap, num_cells, tolerance=_TOLERANCE, steps=_STEPS)
    mean = np.where(nearest > 0, distances.mean(axis=1), distances.mean())
    return nearest, np.maximum(width, _LEAST * mean)
