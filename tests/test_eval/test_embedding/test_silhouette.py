from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge.eval.embedding import silhouette
from scmodelforge.eval.embedding.silhouette import batch_silhouette, silhouette_samples


def by_hand(points, codes, *, others):
    """Follow the definition, cell by cell, with angles."""
    units = points / np.linalg.norm(points, axis=1, keepdims=True)
    distances = 1 - units @ units.T
    scores = []
    for row, code in enumerate(codes):
        own = np.flatnonzero((codes == code) & (np.arange(len(codes)) != row))
        if len(own) == 0:
            scores.append(0.0)
            continue
        within = distances[row, own].mean()
        means = [distances[row, codes == other].mean() for other in np.unique(codes) if other != code]
        beyond = max(means) if others == "furthest" else distances[row, codes != code].mean()
        scores.append((beyond - within) / max(beyond, within))
    return np.array(scores)


class TestSilhouette:
    @pytest.mark.parametrize(("rows", "columns"), [(256, 2048), (7, 5)])
    def test_equals_that_of_scikit_learn(self, rows, columns, monkeypatch):
        from sklearn.metrics import silhouette_samples as expected

        monkeypatch.setattr(silhouette, "_ROWS", rows)
        monkeypatch.setattr(silhouette, "_COLUMNS", columns)
        rng = np.random.default_rng(0)
        points, codes = rng.normal(size=(60, 5)) * 1e3, rng.integers(0, 4, 60)
        codes[0] = 4  # alone in its label
        np.testing.assert_allclose(silhouette_samples(points, codes), expected(points, codes), rtol=0, atol=1e-10)

    @pytest.mark.parametrize("others", ["mean_other", "furthest"])
    def test_variants_of_bras_follow_their_definition(self, others):
        rng = np.random.default_rng(0)
        points, codes = rng.normal(size=(50, 4)), rng.integers(0, 4, 50)
        codes[0] = 4
        found = silhouette_samples(points, codes, distance="cosine", others=others)
        np.testing.assert_allclose(found, by_hand(points, codes, others=others), atol=1e-12)

    def test_does_not_change_when_the_embedding_is_turned_moved_or_scaled(self):
        rng = np.random.default_rng(0)
        points, codes = rng.normal(size=(40, 6)), rng.integers(0, 3, 40)
        turned = points @ np.linalg.qr(rng.normal(size=(6, 6)))[0] * 7.5 + 3
        np.testing.assert_allclose(silhouette_samples(turned, codes), silhouette_samples(points, codes), atol=1e-9)

    def test_is_zero_where_nothing_differs(self):
        assert (silhouette_samples(np.ones((6, 2)), np.array([0, 0, 0, 1, 1, 1])) == 0).all()

    @given(st.integers(0, 1000))
    def test_stays_between_minus_one_and_one(self, seed):
        rng = np.random.default_rng(seed)
        points, codes = rng.integers(-2, 3, size=(20, 2)).astype(float), rng.integers(0, 3, 20)
        codes[:3] = [0, 1, 2]
        for distance in ("euclidean", "cosine"):
            for others in ("nearest", "mean_other", "furthest"):
                found = silhouette_samples(points, codes, distance=distance, others=others)
                assert (np.abs(found) <= 1 + 1e-12).all()


class TestBatchSilhouette:
    def test_leaves_out_labels_of_one_batch_and_of_a_batch_for_each_cell(self):
        rng = np.random.default_rng(0)
        labels, batches = np.repeat([0, 1, 2], [6, 6, 3]), np.array([0] * 6 + [0, 1] * 3 + [0, 1, 2])
        found = batch_silhouette(rng.normal(size=(15, 3)), labels, batches, distance="euclidean", others="nearest")
        assert found.left_out == [0, 2]
        np.testing.assert_array_equal(found.rows, np.arange(6, 12))
        np.testing.assert_array_equal(found.labels, 1)
