from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge.eval.embedding.graph import umap_connectivities
from scmodelforge.eval.embedding.lisi import lisi, neighbor_weights, scaled_batch_lisi, scaled_label_lisi
from scmodelforge.eval.neighbors import Neighbors, nearest_neighbors


@pytest.fixture(scope="module")
def near():
    return nearest_neighbors(np.random.default_rng(0).normal(size=(150, 5)), 90)


class TestWeights:
    def test_have_the_perplexity_asked_for_and_leave_the_cell_out(self, near):
        weights = neighbor_weights(near)
        assert (weights[:, 0] == 0).all()
        logs = np.log(np.where(weights > 0, weights, 1))
        np.testing.assert_allclose(np.exp(-(weights * logs).sum(axis=1)), 30, rtol=1e-4)

    def test_fall_with_the_distance(self, near):
        assert (np.diff(neighbor_weights(near)[:, 1:], axis=1) <= 0).all()

    def test_sum_to_one_far_away_and_close_by(self):
        points = np.random.default_rng(0).normal(size=(100, 5))
        for scale in (1e-4, 1e4):
            np.testing.assert_allclose(neighbor_weights(nearest_neighbors(points * scale, 90)).sum(axis=1), 1)

    @pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
    def test_are_the_same_at_every_scale(self, near, scale):
        far = Neighbors(near.indices, near.distances * scale)
        np.testing.assert_allclose(neighbor_weights(far), neighbor_weights(near), atol=1e-5)
        found, expected = (umap_connectivities(each.first(15)).toarray() for each in (far, near))
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_of_one_cell_far_away_do_not_change_those_of_others(self, near):
        distances = near.distances.copy()
        distances[0] *= 1e30
        found = neighbor_weights(Neighbors(near.indices, distances))
        np.testing.assert_array_equal(found[1:], neighbor_weights(near)[1:])
        np.testing.assert_allclose(found[0], neighbor_weights(near)[0], atol=1e-5)


class TestLisi:
    def test_is_the_inverse_of_the_sum_of_squared_shares(self):
        weights = np.array([[0, 0.5, 0.25, 0.25]])
        codes = np.array([0, 0, 1, 1])
        assert lisi(weights, np.array([[0, 1, 2, 3]]), codes, 2) == pytest.approx(1 / (0.5**2 + 0.5**2))
        codes = np.array([0, 0, 1, 2])
        assert lisi(weights, np.array([[0, 1, 2, 3]]), codes, 3) == pytest.approx(1 / (0.25 + 2 * 0.0625))

    @given(st.integers(2, 6), st.integers(0, 50))
    def test_lies_between_one_and_the_number_of_codes(self, num_codes, seed):
        rng = np.random.default_rng(seed)
        weights = rng.random((8, 5))
        weights /= weights.sum(axis=1, keepdims=True)
        values = lisi(weights, rng.integers(0, 8, size=(8, 5)), rng.integers(0, num_codes, 8), num_codes)
        assert (values >= 1 - 1e-9).all()
        assert (values <= num_codes + 1e-9).all()
        assert (scaled_batch_lisi(values, num_codes) >= -1e-9).all()
        assert (scaled_label_lisi(values, num_codes) <= 1 + 1e-9).all()

    def test_of_no_neighbours_is_not_a_number(self):
        near = Neighbors(np.full((2, 3), -1), np.zeros((2, 3)))
        assert np.isnan(lisi(neighbor_weights(near), near.indices, np.array([0, 1]), 2)).all()
