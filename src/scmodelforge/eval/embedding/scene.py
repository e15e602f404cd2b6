"""The cells that are scored, with what several metrics need of them, computed when first asked for and once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from scmodelforge.eval.biology import sklearn_seed
from scmodelforge.eval.cells import Cells
from scmodelforge.eval.embedding.clustering import RESOLUTIONS, Flavour, kmeans, leiden
from scmodelforge.eval.embedding.graph import umap_connectivities
from scmodelforge.eval.embedding.lisi import LISI_NEIGHBORS, graph_neighbors, neighbor_weights
from scmodelforge.eval.embedding.silhouette import silhouette_samples
from scmodelforge.eval.neighbors import Neighbors, nearest_neighbors

__all__ = ["GRAPH_NEIGHBORS", "Scene"]

#: Neighbours of the graph, the cell itself included.
GRAPH_NEIGHBORS = 15


@dataclass
class Scene:
    """Cells with labels, in an order of their own.

    Attributes
    ----------
    cells
        The scored cells.
    labels, label_names
        Code of each cell's label, shape (n,), and what the codes mean.
    batches, batch_names
        Likewise; batches are not there for metrics of labels alone.
    reference
        The cells before integration, shape (n, P), or ``None``.
    seed
        Seed of clusterings and intervals.
    kmeans_starts
        Clusterings k-means tries.
    num_neighbors
        The most neighbours that are asked for, the cell itself included.
    chosen_from
        Number of cells the scored ones were chosen from, or ``None`` if all are scored.
    """

    cells: Cells
    labels: np.ndarray
    label_names: np.ndarray
    batches: np.ndarray | None
    batch_names: np.ndarray
    reference: np.ndarray | None
    seed: int
    kmeans_starts: int
    num_neighbors: int
    chosen_from: int | None = None
    _graphs: dict[int, sp.csr_matrix] = field(default_factory=dict)
    _leiden: dict[Any, list[np.ndarray]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def embeddings(self) -> np.ndarray:
        """Shape (n, H)."""
        return self.cells.embeddings

    def nearest(self, k: int) -> Neighbors:
        """Return the ``k`` nearest cells of each, itself included."""
        return self._neighbors.first(k)

    def graph(self, k: int = GRAPH_NEIGHBORS) -> sp.csr_matrix:
        """Return UMAP's weights between the ``k`` nearest cells."""
        if k not in self._graphs:
            self._graphs[k] = umap_connectivities(self.nearest(k))
        return self._graphs[k]

    def leiden(self, flavour: Flavour, resolutions: tuple[float, ...] = RESOLUTIONS) -> list[np.ndarray]:
        """Return the Leiden clustering of the graph at each resolution."""
        key = (flavour, resolutions)
        if key not in self._leiden:
            self._leiden[key] = leiden(self.graph(), resolutions, flavour)
        return self._leiden[key]

    @cached_property
    def num_duplicates(self) -> int:
        """Cells whose embedding an earlier one has too."""
        return self.cells.num_duplicates

    @cached_property
    def kmeans(self) -> np.ndarray:
        """K-means clusters, as many as labels."""
        seed = sklearn_seed(self.seed, "kmeans")
        return kmeans(self.embeddings, len(self.label_names), starts=self.kmeans_starts, seed=seed)

    @cached_property
    def label_silhouettes(self) -> np.ndarray:
        """(silhouette of labels + 1) / 2 of each cell."""
        return (silhouette_samples(self.embeddings, self.labels) + 1) / 2

    @cached_property
    def lisi_neighborhood(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights and indices of the 90 nearest cells."""
        neighbors = self.nearest(LISI_NEIGHBORS)
        return neighbor_weights(neighbors), neighbors.indices

    @cached_property
    def graph_neighborhood(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights and indices of the 90 cells nearest by paths along the graph."""
        neighbors = graph_neighbors(self.graph(), LISI_NEIGHBORS)
        return neighbor_weights(neighbors), neighbors.indices

    @cached_property
    def _neighbors(self) -> Neighbors:
        return nearest_neighbors(self.embeddings, self.num_neighbors)
