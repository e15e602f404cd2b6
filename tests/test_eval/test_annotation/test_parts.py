"""Parts of annotation against plain formulas and scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scmodelforge.eval.annotation.groups import group_folds
from scmodelforge.eval.annotation.probes import ProbeConfig, fit_probe
from scmodelforge.eval.annotation.run import answers_of
from scmodelforge.eval.annotation.scores import auroc, calibration_error, macro_auroc
from scmodelforge.eval.annotation.softmax import fit_softmax
from scmodelforge.eval.annotation.task import AnnotationTask
from tests.test_eval.scoring import clustered, unstructured

PROBES = ["linear_probe", "knn", "knn_cosine"]
CONFIG = ProbeConfig(name="any")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


class TestAuroc:
    @pytest.mark.parametrize("digits", [0, 1, 8])
    def test_is_that_of_scikit_learn_with_ties_and_weights(self, digits):
        from sklearn.metrics import roc_auc_score

        rng = np.random.default_rng(0)
        scores, is_positive = np.round(noise(200), digits), rng.random(200) < 0.2
        weights = rng.integers(0, 4, size=(200, 5))
        expected = [roc_auc_score(is_positive, scores, sample_weight=column) for column in weights.T]
        np.testing.assert_allclose(auroc(scores, is_positive, weights), expected, atol=1e-12)

    def test_is_not_defined_for_one_kind_of_cells(self):
        assert np.isnan(auroc(np.arange(3.0), np.ones(3, dtype=bool), np.ones((3, 1)))).all()

    def test_over_labels_is_that_of_scikit_learn(self):
        from sklearn.metrics import roc_auc_score

        rows = np.abs(noise(300, 4))
        rows /= rows.sum(axis=1, keepdims=True)
        codes = np.random.default_rng(1).integers(4, size=300)
        expected = roc_auc_score(codes, rows, multi_class="ovr", average="macro")
        assert macro_auroc(rows, codes, np.ones((300, 1)))[0] == pytest.approx(expected)

    def test_over_labels_leaves_out_those_without_cells(self):
        rows = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.4, 0.3]])
        assert macro_auroc(rows, np.array([0, 1, -1]), np.ones((3, 1)))[0] == 1


class TestCalibrationError:
    def test_is_the_mean_gap_in_bins(self):
        confidence, is_right = np.array([0.95, 0.97, 0.5, 0.52]), np.array([True, False, True, True])
        # Two bins: (14/15, 1] and (7/15, 8/15]; half of the cells are in each.
        expected = abs(0.5 - 0.96) / 2 + abs(1 - 0.51) / 2
        assert calibration_error(confidence, is_right, np.ones((4, 1)))[0] == pytest.approx(expected)

    def test_bounds_belong_to_the_bin_below(self):
        votes = np.arange(1, 16) / 15
        one_each = calibration_error(votes, votes > 2, np.ones((15, 1)))[0]
        assert one_each == pytest.approx(votes.mean())  # gaps of a bin do not cancel out: each vote has its own
        assert calibration_error(votes, np.tile([1.0, 0.0], 8)[:15], np.ones((15, 1)))[0] == pytest.approx(
            np.abs(np.tile([1.0, 0.0], 8)[:15] - votes).mean()
        )

    def test_certainty_that_is_right_has_none(self):
        assert calibration_error(np.ones(4), np.ones(4, dtype=bool), np.ones((4, 2))).tolist() == [0, 0]


class TestSoftmax:
    @pytest.mark.parametrize(("num_labels", "num_cells"), [(2, 200), (4, 200), (4, 20)])
    def test_is_the_minimum_that_scikit_learn_seeks(self, num_labels, num_cells):
        from sklearn.linear_model import LogisticRegression

        points = noise(num_cells, 6) @ noise(6, 30, seed=1)  # columns that say the same many times over
        codes = np.arange(num_cells) % num_labels
        points[:, 0] += codes
        found = fit_softmax(points, codes, max_iter=2000)
        peer = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(points, codes)
        assert found.has_converged
        np.testing.assert_allclose(found.probabilities(points), peer.predict_proba(points), atol=1e-4)

    def test_single_precision_and_columns_beyond_rotation_give_the_same(self, monkeypatch):
        from scmodelforge.eval.annotation import softmax

        points, codes = noise(300, 12), np.arange(300) % 3
        points[:, 0] += codes
        expected = fit_softmax(points, codes, max_iter=2000).probabilities(points)
        monkeypatch.setattr(softmax, "_MOST_DOUBLE", 0)
        single = fit_softmax(points, codes, max_iter=2000)
        monkeypatch.setattr(softmax, "_MOST_ROTATED", 0)
        plain = fit_softmax(points, codes, max_iter=2000)
        assert single.has_converged
        assert plain.has_converged
        np.testing.assert_allclose(single.probabilities(points), expected, atol=1e-3)
        np.testing.assert_allclose(plain.probabilities(points), expected, atol=1e-3)

    def test_needs_few_steps_where_columns_are_alike(self):
        """Gradient steps along raw columns that are nearly one take hundreds."""
        points = noise(2000, 1) + 0.01 * noise(2000, 40, seed=1)
        points = (points - points.mean(axis=0)) / points.std(axis=0)
        codes = (noise(2000, seed=2) + 50 * (points[:, 0] - points[:, 1]) > 0).astype(np.int64)
        found = fit_softmax(points, codes, max_iter=2000)
        assert found.has_converged
        assert found.num_steps < 100


class TestFoldsOfGroups:
    def test_keep_groups_whole_and_sizes_even(self):
        groups = np.repeat([f"d{i}" for i in range(7)], [10, 40, 20, 30, 20, 30, 50])
        folds = group_folds(groups)
        assert all(len(np.unique(folds[groups == name])) == 1 for name in np.unique(groups))
        assert sorted(np.bincount(folds)) == [30, 40, 40, 40, 50]

    def test_are_as_many_as_groups_at_most(self):
        assert len(np.unique(group_folds(np.array(["a", "b", "a"])))) == 2


class TestNothingIsFittedOnHeldOutCells:
    def answers(self, probe, inputs):
        return answers_of(probe, CONFIG, AnnotationTask.of("any", inputs, min_class_size=1))

    @pytest.fixture
    def inputs(self):
        inputs = unstructured()
        train = inputs.train.select(inputs.train.labels != "type0")  # so that a threshold is looked for
        return replace(inputs, train=train)

    @pytest.mark.parametrize("probe", PROBES)
    def test_other_held_out_cells_change_nothing_of_what_is_said_of_a_cell(self, probe, inputs):
        other = inputs.heldout.embeddings.copy()
        other[100:] = 1e3 * noise(len(other) - 100, other.shape[1], seed=5)
        before = self.answers(probe, inputs)
        after = self.answers(probe, replace(inputs, heldout=replace(inputs.heldout, embeddings=other)))
        np.testing.assert_array_equal(before.probabilities[:100], after.probabilities[:100])
        assert not np.array_equal(before.probabilities[100:], after.probabilities[100:])
        assert before.threshold == after.threshold

    @pytest.mark.parametrize("probe", PROBES)
    def test_labels_of_held_out_cells_change_nothing(self, probe, inputs):
        labels = np.random.default_rng(0).permutation(inputs.heldout.labels)
        labels[:50] = "another"
        before = self.answers(probe, inputs)
        after = self.answers(probe, replace(inputs, heldout=replace(inputs.heldout, labels=labels)))
        np.testing.assert_array_equal(before.probabilities, after.probabilities)
        assert (before.threshold, before.names.tolist()) == (after.threshold, after.names.tolist())

    @pytest.mark.parametrize("probe", PROBES)
    def test_training_cells_do_change_it(self, probe, inputs):
        """Else the tests above could not fail."""
        labels = np.random.default_rng(0).permutation(inputs.train.labels)
        before = self.answers(probe, inputs)
        after = self.answers(probe, replace(inputs, train=replace(inputs.train, labels=labels)))
        assert not np.array_equal(before.probabilities, after.probabilities)

    def test_columns_are_standardised_by_training_cells(self):
        cells = clustered().train
        probe = fit_probe("linear_probe", CONFIG, cells.embeddings, cells.labels)
        np.testing.assert_allclose(probe.centre, cells.embeddings.mean(axis=0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(probe.spread, cells.embeddings.std(axis=0), rtol=1e-4)
