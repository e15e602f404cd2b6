from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge.data import _compile
from scmodelforge.eval import neighbors
from scmodelforge.eval.neighbors import nearest_neighbors


def by_hand(points: np.ndarray, k: int) -> np.ndarray:
    """Sort all cells by distance and then by number, the cell itself first."""
    found = []
    for row, point in enumerate(points.astype(np.float64)):
        distances = ((points.astype(np.float64) - point) ** 2).sum(axis=1)
        distances[row] = -1
        found.append(np.argsort(distances, kind="stable")[:k])
    return np.array(found)


@pytest.fixture
def small_blocks(monkeypatch):
    """Take the way of large data with few cells: several blocks, candidates from single precision."""
    monkeypatch.setattr(neighbors, "_DIRECT", 0)
    monkeypatch.setattr(neighbors, "_ROWS", 37)
    monkeypatch.setattr(neighbors, "_COLUMNS", 64)
    monkeypatch.setattr(neighbors, "compiled", lambda function: lambda size: function)


class TestNearest:
    def test_are_those_of_all_distances(self):
        points = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
        np.testing.assert_array_equal(nearest_neighbors(points, 20).indices, by_hand(points, 20))

    @pytest.mark.usefixtures("small_blocks")
    @pytest.mark.parametrize("offset", [0.0, 1e4])
    def test_are_the_same_found_in_blocks_and_single_precision(self, offset):
        points = (np.random.default_rng(0).normal(size=(200, 5)) + offset).astype(np.float32)
        found = nearest_neighbors(points, 15)
        np.testing.assert_array_equal(found.indices, by_hand(points, 15))

    @pytest.mark.usefixtures("small_blocks")
    def test_rows_that_rounding_makes_doubtful_are_searched_again(self):
        # 60 copies of each of 3 points: no candidate is nearer than those that are left out.
        points = np.repeat(np.random.default_rng(0).normal(size=(3, 4)), 60, axis=0).astype(np.float32)
        found = nearest_neighbors(points, 10)
        np.testing.assert_array_equal(found.indices, by_hand(points, 10))
        assert (found.distances == 0).all()

    @pytest.mark.usefixtures("small_blocks")
    def test_one_cell_far_from_all_makes_no_others_doubtful(self, monkeypatch):
        points = np.random.default_rng(0).normal(size=(1200, 16))
        points[7] *= 1000
        again = []
        search = neighbors._search_all

        def noted(points, rows, *rest):
            again.append(len(rows))
            search(points, rows, *rest)

        monkeypatch.setattr(neighbors, "_search_all", noted)
        found = nearest_neighbors(points, 10)
        assert sum(again) < 20
        distances = np.linalg.norm(points[:, None] - points[None], axis=2)
        np.testing.assert_array_equal(found.indices, np.argsort(distances, axis=1, kind="stable")[:, :10])

    def test_huge_and_tiny_numbers_have_room(self):
        points = np.random.default_rng(0).normal(size=(150, 4)).astype(np.float32)
        for scale in (1e30, 1e-30):
            found = nearest_neighbors(points * np.float32(scale), 10)
            assert np.isfinite(found.distances).all()
            np.testing.assert_allclose(found.distances, nearest_neighbors(points, 10).distances * scale, rtol=1e-5)

    def test_compiled_loops_find_the_same(self, monkeypatch):
        points = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
        direct = nearest_neighbors(points, 12)
        monkeypatch.setattr(neighbors, "_DIRECT", 0)
        monkeypatch.setattr(neighbors, "compiled", lambda function: lambda size: real(function)(1 << 62))
        from scmodelforge.data._compile import compiled as real

        np.testing.assert_array_equal(nearest_neighbors(points, 12).indices, direct.indices)

    @given(st.integers(1, 40), st.integers(1, 5), st.data())
    def test_itself_is_first_and_distances_never_fall(self, num_cells, dim, data):
        seed = data.draw(st.integers(0, 100))
        points = np.random.default_rng(seed).integers(0, 3, size=(num_cells, dim)).astype(np.float32)  # many ties
        k = data.draw(st.integers(1, num_cells))
        found = nearest_neighbors(points, k)
        np.testing.assert_array_equal(found.indices[:, 0], np.arange(num_cells))
        np.testing.assert_array_equal(found.indices, by_hand(points, k))
        assert (np.diff(found.distances, axis=1) >= 0).all()


def noise(num: int, width: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, width)).astype(np.float32)


def nearest_by_hand(points: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    distances = ((queries[:, None].astype(np.float64) - points[None]) ** 2).sum(axis=2)
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("blocks", [(512, 4096), (7, 50)])
class TestQueries:
    @pytest.fixture(autouse=True)
    def _blocks(self, monkeypatch, blocks):
        monkeypatch.setattr(neighbors, "_ROWS", blocks[0])
        monkeypatch.setattr(neighbors, "_COLUMNS", blocks[1])
        monkeypatch.setattr(_compile._state, "many_to_come", True)

    @pytest.mark.parametrize("num_points", [200, 900])
    def test_get_the_nearest_points(self, num_points):
        points, queries = noise(num_points, 10), noise(60, 10, seed=1)
        found = nearest_neighbors(points, 7, queries=queries)
        np.testing.assert_array_equal(found.indices, nearest_by_hand(points, queries, 7))
        assert (np.diff(found.distances, axis=1) >= 0).all()

    def test_far_from_all_points_do_too(self):
        points, queries = noise(700, 4), 1e4 + noise(5, 4, seed=1)
        np.testing.assert_array_equal(
            nearest_neighbors(points, 3, queries=queries).indices, nearest_by_hand(points, queries, 3)
        )

    def test_in_tight_clusters_far_apart_do_too(self):
        """Where products of matrices lose the digits that tell one neighbour from another."""
        centres = 1000 * noise(2, 8)
        points = (centres[np.arange(700) % 2] + 1e-3 * noise(700, 8, seed=1)).astype(np.float32)
        queries = (centres + 1e-3 * noise(2, 8, seed=2)).astype(np.float32)
        found = nearest_neighbors(points, 5, queries=queries)
        np.testing.assert_array_equal(found.indices, nearest_by_hand(points, queries, 5))

    def test_get_the_first_of_copies(self):
        points = np.zeros((600, 3), dtype=np.float32)
        points[500:] = 1
        found = nearest_neighbors(points, 4, queries=points[[7, -1]]).indices
        assert found.tolist() == [[0, 1, 2, 3], [500, 501, 502, 503]]

    def test_may_ask_for_all_points(self):
        assert sorted(nearest_neighbors(noise(6, 2), 6, queries=noise(1, 2, seed=3)).indices[0]) == list(range(6))
