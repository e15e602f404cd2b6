"""Graph connectivity: whether each label is one piece of the graph of neighbours."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

__all__ = ["largest_shares"]


def largest_shares(graph: sp.csr_matrix, labels: np.ndarray, num_labels: int) -> np.ndarray:
    """Return for each label the share of its cells in the largest strongly connected piece of its subgraph.

    Parameters
    ----------
    graph
        CSR (n, n). Stored zeros are edges.
    labels
        Codes, shape (n,), each of which occurs.
    num_labels
        Number of labels.
    """
    edges = graph.tocoo()
    is_inside = labels[edges.row] == labels[edges.col]
    inside = (np.ones(int(is_inside.sum()), dtype=np.int8), (edges.row[is_inside], edges.col[is_inside]))
    # Without edges between labels, the pieces of the whole graph are those of the labels.
    _, pieces = connected_components(sp.csr_matrix(inside, shape=graph.shape), connection="strong")
    sizes = np.bincount(pieces)
    largest = np.zeros(num_labels)
    np.maximum.at(largest, labels, sizes[pieces])
    return largest / np.bincount(labels, minlength=num_labels)
