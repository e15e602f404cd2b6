"""The graph of neighbours, and what is read off it."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import dijkstra

from scmodelforge.eval.embedding.connectivity import largest_shares
from scmodelforge.eval.embedding.graph import directed_graph, umap_connectivities
from scmodelforge.eval.embedding.lisi import graph_neighbors
from scmodelforge.eval.neighbors import nearest_neighbors


def points(num_cells: int = 80, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_cells, 4)).astype(np.float32)


class TestConnectivities:
    def test_are_symmetric_weights_up_to_one_without_loops(self):
        graph = umap_connectivities(nearest_neighbors(points(), 15))
        assert abs(graph - graph.T).max() < 1e-12
        assert graph.max() <= 1
        assert graph.min() >= 0
        assert graph.diagonal().sum() == 0

    def test_each_cell_gives_its_nearest_weight_one_and_all_of_them_log2_k(self):
        near = nearest_neighbors(points(), 15)
        graph = umap_connectivities(near).toarray()
        np.testing.assert_allclose(graph[np.arange(80), near.indices[:, 1]], 1, atol=1e-12)
        # joined weights are a + b - ab, no less than a: each row keeps at least its own log2(15)
        assert (graph.sum(axis=1) > np.log2(15) - 1e-4).all()

    def test_do_not_change_with_the_scale(self):
        first = umap_connectivities(nearest_neighbors(points(), 10))
        second = umap_connectivities(nearest_neighbors(points() * 100, 10))
        assert abs(first - second).max() < 1e-4

    def test_copies_of_cells_are_joined_with_finite_weights(self):
        graph = umap_connectivities(nearest_neighbors(np.repeat(points(10), 8, axis=0), 15))
        assert np.isfinite(graph.data).all()
        assert umap_connectivities(nearest_neighbors(np.zeros((20, 3)), 15)).max() <= 1


class TestConnectivity:
    def test_is_the_share_of_the_largest_piece(self):
        edges = [(0, 1), (1, 2), (3, 4), (5, 6)]
        rows, columns = np.array(edges + [(b, a) for a, b in edges]).T
        graph = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(7, 7))
        labels = np.array([0, 0, 0, 0, 0, 1, 1])
        np.testing.assert_allclose(largest_shares(graph, labels, 2), [3 / 5, 1])

    def test_a_path_through_another_label_does_not_join(self):
        rows, columns = [0, 1, 1, 2], [1, 0, 2, 1]
        graph = sp.csr_matrix((np.ones(4), (rows, columns)), shape=(3, 3))
        np.testing.assert_allclose(largest_shares(graph, np.array([0, 1, 0]), 2), [1 / 2, 1])

    def test_directed_edges_join_only_there_and_back(self):
        graph = sp.csr_matrix(([1, 1, 1], ([0, 1, 2], [1, 0, 0])), shape=(3, 3))
        np.testing.assert_allclose(largest_shares(graph, np.zeros(3, dtype=int), 1), [2 / 3])

    def test_copies_of_cells_are_joined(self):
        near = nearest_neighbors(np.zeros((10, 2)), 10)
        np.testing.assert_allclose(largest_shares(directed_graph(near), np.zeros(10, dtype=int), 1), [1])


class TestPaths:
    def test_reach_the_cells_scipy_finds_nearest(self):
        graph = umap_connectivities(nearest_neighbors(points(), 8))
        expected = np.sort(dijkstra(graph), axis=1)[:, 1:21]
        found = graph_neighbors(graph, 20)
        np.testing.assert_allclose(found.distances, expected, atol=1e-12)
        lengths = dijkstra(graph)
        np.testing.assert_allclose(np.take_along_axis(lengths, found.indices, axis=1), expected, atol=1e-12)

    def test_places_that_cannot_be_reached_stay_empty(self):
        graph = sp.csr_matrix(([0.5, 0.5], ([0, 1], [1, 0])), shape=(3, 3))
        np.testing.assert_array_equal(graph_neighbors(graph, 2).indices, [[1, -1], [0, -1], [-1, -1]])
