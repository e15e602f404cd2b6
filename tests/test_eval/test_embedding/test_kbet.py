from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.stats import chisquare

from scmodelforge.eval.embedding.graph import umap_connectivities
from scmodelforge.eval.embedding.kbet import accepted_cells, accepted_within_labels, diffusion_map
from scmodelforge.eval.neighbors import nearest_neighbors


def acceptance(points, labels, batches):
    graph = umap_connectivities(nearest_neighbors(points, 50))
    return accepted_within_labels(graph, np.asarray(labels), np.asarray(batches))


class TestTest:
    def test_is_the_chi_square_test_of_each_neighbourhood(self):
        rng = np.random.default_rng(0)
        neighbors, batches = rng.integers(0, 40, size=(40, 12)), rng.integers(0, 3, 40)
        shares = np.bincount(batches, minlength=3) / 40
        expected = [chisquare(np.bincount(batches[row], minlength=3), shares * 12).pvalue >= 0.05 for row in neighbors]
        np.testing.assert_array_equal(accepted_cells(neighbors, batches), expected)


class TestWithinLabels:
    def test_mixed_batches_are_accepted_and_separate_ones_rejected(self):
        rng = np.random.default_rng(0)
        points, batches = rng.normal(size=(200, 5)), rng.integers(0, 2, 200)
        assert acceptance(points, np.zeros(200, dtype=int), batches).accepted.mean() > 0.85
        points = points + 3 * batches[:, None]
        assert acceptance(points, np.zeros(200, dtype=int), batches).accepted.mean() < 0.1

    def test_small_labels_and_labels_of_one_batch_are_left_out(self):
        rng = np.random.default_rng(0)
        labels = np.repeat([0, 1, 2], [9, 60, 60])
        batches = np.concatenate([rng.integers(0, 2, 9), np.zeros(60, dtype=int), rng.integers(0, 2, 60)])
        found = acceptance(rng.normal(size=(129, 4)), labels, batches)
        assert found.left_out == [0, 1]
        assert set(found.labels) == {2}

    def test_a_label_in_small_pieces_scores_zero_and_is_named(self):
        rng = np.random.default_rng(0)
        # Five cells of the label lie in each of eight places, each among 60 cells of another label.
        centres = np.repeat(100 * np.eye(8), 65, axis=0)
        labels = np.tile(np.repeat([0, 1], [5, 60]), 8)
        found = acceptance(centres + rng.normal(size=centres.shape), labels, rng.integers(0, 2, len(labels)))
        assert 0 in found.broken
        assert (found.accepted[found.labels == 0] == 0).all()

    def test_does_not_depend_on_the_names_of_labels(self):
        rng = np.random.default_rng(0)
        points, labels, batches = rng.normal(size=(160, 4)), rng.integers(0, 3, 160), rng.integers(0, 2, 160)
        labels[:130] = np.where(labels[:130] == 2, 0, labels[:130])  # the last is small
        first, second = acceptance(points, labels, batches), acceptance(points, 2 - labels, batches)
        for code in range(3):
            assert first.accepted[first.labels == code].sum() == second.accepted[second.labels == 2 - code].sum()


class TestDiffusionMap:
    def test_has_finite_places_and_keeps_pieces_apart(self):
        graph = sp.block_diag([np.ones((6, 6)) - np.eye(6)] * 2, format="csr")
        places = diffusion_map(graph, 3)
        assert np.isfinite(places).all()
        distances = np.linalg.norm(places[:, None] - places[None], axis=2)
        assert distances[:6, 6:].min() > 0.1
