"""kBET: whether the batches of a cell's neighbours differ from those of all cells (Buettner et al. 2019).

A chi-square test for each cell; the score is the share of cells where it finds nothing (p >= 0.05). Within labels, the
neighbours are those in the diffusion map of the label's subgraph (doi:10.1038/s41592-018-0254-1).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.special import chdtrc

from scmodelforge.data.draws import generator
from scmodelforge.eval.neighbors import nearest_neighbors

__all__ = ["FEWEST_CELLS", "KBET_NEIGHBORS", "LabelAcceptance", "accepted_cells", "accepted_within_labels"]

KBET_NEIGHBORS = 50
_ALPHA = 0.05
_COMPONENTS = 100  # of a diffusion map
#: Cells that a label must have at least.
FEWEST_CELLS = 10
_FEWEST_NEIGHBORS, _MOST_NEIGHBORS = 10, 70
_ENOUGH = 0.75  # the least share of a label's cells in large pieces


class LabelAcceptance(NamedTuple):
    """kBET within labels.

    Attributes
    ----------
    rows
        Cells of the labels that are scored.
    accepted
        Whether the test finds nothing for each; 0 for all cells of a label that falls into small pieces.
    labels
        Code of the label of each. The cells outside a label's large pieces are not listed.
    left_out
        Labels with fewer than 10 cells or with one batch.
    broken
        Labels that score 0 because less than three quarters of their cells are in large pieces.
    """

    rows: np.ndarray
    accepted: np.ndarray
    labels: np.ndarray
    left_out: list[int]
    broken: list[int]


def accepted_cells(neighbors: np.ndarray, batches: np.ndarray) -> np.ndarray:
    """Return whether the neighbours' batches are like those of all cells, shape (n,), float64 of 0 and 1.

    Parameters
    ----------
    neighbors
        Which cells they are, itself included, shape (n, k).
    batches
        Codes, shape (n,), at least two of which occur.
    """
    _, codes, sizes = np.unique(batches, return_inverse=True, return_counts=True)
    num_cells, k = neighbors.shape
    expected = sizes / sizes.sum() * k
    slots = np.repeat(np.arange(num_cells), k) * len(sizes) + codes[neighbors].ravel()
    observed = np.bincount(slots, minlength=num_cells * len(sizes)).reshape(num_cells, -1)
    statistic = ((observed - expected) ** 2 / expected).sum(axis=1)
    return (chdtrc(len(sizes) - 1, statistic) >= _ALPHA).astype(np.float64)


def accepted_within_labels(graph: sp.csr_matrix, labels: np.ndarray, batches: np.ndarray) -> LabelAcceptance:
    """Return which cells' neighbours within their label are like the label's batches.

    Parameters
    ----------
    graph
        Symmetric weights of the graph of 50 neighbours, CSR (n, n).
    labels, batches
        Codes, shape (n,).
    """
    rows, accepted, left_out, broken = [], [], [], []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        sizes = np.unique(batches[members], return_counts=True)[1]
        if len(members) < FEWEST_CELLS or len(sizes) == 1:
            left_out.append(int(label))
            continue
        k = int(np.clip(sizes.mean() // 4, _FEWEST_NEIGHBORS, _MOST_NEIGHBORS))
        inside = graph[members][:, members]
        kept = _large_pieces(inside, least=3 * k)
        if len(kept) < _ENOUGH * len(members):
            broken.append(int(label))
            rows.append(members)
            accepted.append(np.zeros(len(members)))
            continue
        rows.append(members[kept])
        if len(kept) < len(members):
            inside = inside[kept][:, kept]
        accepted.append(_accepted(inside, batches[members[kept]], k))
    found = np.concatenate([np.zeros(0, dtype=np.int64), *rows])
    return LabelAcceptance(found, np.concatenate([np.zeros(0), *accepted]), labels[found], left_out, broken)


def _accepted(graph: sp.csr_matrix, batches: np.ndarray, k: int) -> np.ndarray:
    if len(np.unique(batches)) == 1:  # the other batches are in small pieces: each neighbour is as expected
        return np.ones(len(batches))
    places = diffusion_map(graph, min(_COMPONENTS, graph.shape[0] - 1))
    return accepted_cells(nearest_neighbors(places, min(k + 1, len(places))).indices, batches)


def _large_pieces(graph: sp.csr_matrix, *, least: int) -> np.ndarray:
    """Return the cells of pieces of at least so many cells; all cells if there is one piece."""
    count, pieces = connected_components(graph, connection="strong")
    sizes = np.bincount(pieces)
    return np.flatnonzero((sizes[pieces] >= least) | (count == 1))


def diffusion_map(graph: sp.csr_matrix, components: int) -> np.ndarray:
    """Return places of cells whose distances are those of diffusion over all times, shape (n, components).

    (Haghverdi et al. 2016, doi:10.1038/nmeth.3971.) The eigenvectors of the symmetric transition matrix, each times
    e / (1 - e); that of eigenvalue 1, of which there is one for each piece, counts once.
    """
    degrees = np.asarray(graph.sum(axis=0)).ravel()
    scaled = sp.diags_array(1 / degrees) @ graph @ sp.diags_array(1 / degrees)
    roots = np.sqrt(np.asarray(scaled.sum(axis=0)).ravel())
    transitions = sp.csr_array(sp.diags_array(1 / roots) @ scaled @ sp.diags_array(1 / roots))
    start = generator(0, "diffusion map", graph.shape[0]).standard_normal(graph.shape[0])
    values, vectors = sp.linalg.eigsh(transitions, k=components, which="LM", v0=start)
    is_steady = values > 1 - 1e-6
    return np.asarray(vectors * np.where(is_steady, 1.0, values / np.where(is_steady, 1.0, 1 - values)))
