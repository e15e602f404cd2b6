"""Baselines of means that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scmodelforge.eval.perturbation.baselines import Training, baseline_cells, baseline_means, baseline_names
from scmodelforge.eval.perturbation.conditions import CONTROL, Group
from scmodelforge.eval.perturbation.linear import GeneFactors, solve_gkp
from tests.test_eval.test_perturbation.screens import HELD_OUT, only, read, screen

GENES = ("A", "B", "C", "D")


def mean(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)


def training(**means) -> Training:
    named = {Group("", name): value for name, value in means.items()}
    return Training(GENES, named, {"": mean(1, 1, 1, 1)})


TWO = training(A=mean(0, 1, 3, 1), B=mean(1, 0, 1, 5))
AB, AC, D = Group("", "A+B"), Group("", "A+C"), Group("", "D")


def test_no_change_is_the_control():
    assert baseline_means("no_change", TWO, [AB])[AB].tolist() == [1, 1, 1, 1]


def test_the_mean_counts_each_perturbation_once():
    assert baseline_means("perturbed_mean", TWO, [D])[D].tolist() == [0.5, 0.5, 2, 3]


def test_changes_add_up_and_one_that_was_not_seen_adds_nothing():
    found = baseline_means("additive", TWO, [AB, AC, D])
    assert found[AB].tolist() == [0, 0, 3, 5]
    assert found[AC].tolist() == [0, 1, 3, 1]
    assert found[D].tolist() == [1, 1, 1, 1]


class TestTransfer:
    there = Training(
        GENES,
        {
            Group("k562", "A"): mean(0, 1, 3, 1),
            Group("rpe1", "A"): mean(2, 2, 6, 2),
            Group("hepg2", "B"): mean(5, 5, 5, 5),
        },
        {"k562": mean(1, 1, 1, 1), "rpe1": mean(2, 2, 2, 2), "hepg2": mean(4, 4, 4, 4)},
    )

    def test_is_the_own_control_and_the_mean_change_elsewhere(self):
        group = Group("hepg2", "A")
        assert baseline_means("transfer", self.there, [group])[group].tolist() == [3.5, 4, 7, 4]

    def test_is_the_mean_change_for_what_was_seen_nowhere(self):
        group = Group("hepg2", "C")
        assert baseline_means("transfer", self.there, [group])[group].tolist() == [5, 5, 5, 5]

    def test_is_there_if_something_was_seen_elsewhere(self):
        assert "transfer" in baseline_names(self.there, [Group("hepg2", "A")])
        assert "transfer" not in baseline_names(TWO, [AB])

    def test_a_covariate_without_training_conditions_takes_the_changes_of_others(self):
        control = {**self.there.controls, "new": mean(10, 10, 10, 10)}
        group = Group("new", "C")
        found = baseline_means("perturbed_mean", Training(GENES, self.there.means, control), [group])[group]
        np.testing.assert_allclose(found, 10 + np.mean([[-1, 0, 2, 0], [0, 0, 4, 0], [1, 1, 1, 1]], axis=0))


class TestLinear:
    def test_finds_a_linear_map(self):
        rng = np.random.default_rng(0)
        g, p, k = rng.normal(size=(50, 3)), rng.normal(size=(4, 30)), rng.normal(size=(3, 4))
        p -= p.mean(axis=1, keepdims=True)
        found, offset = solve_gkp(g @ k @ p + 2, g, p, ridge=1e-9)
        np.testing.assert_allclose(found, k, atol=1e-6)
        np.testing.assert_allclose(offset, 2, atol=1e-6)

    def test_predicts_the_mean_change_without_a_vector(self):
        unknown = Group("", "UNMEASURED")
        found = baseline_means("linear", TWO, [unknown])[unknown]
        np.testing.assert_allclose(found, baseline_means("perturbed_mean", TWO, [unknown])[unknown])

    def test_noise_depends_on_the_seed_and_the_name_alone(self):
        first, again, other = (baseline_means("linear_random", TWO, [D], seed=seed)[D] for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_learns_from_vectors_that_say_what_a_gene_does(self):
        """Perturbations come in two kinds; vectors that tell them apart predict the kind of a new one."""
        up, down = mean(2, 2, 0, 1), mean(0, 0, 2, 1)
        kinds = {f"P{i}": up if i % 2 else down for i in range(20)}
        vectors = GeneFactors.given([*kinds, "NEW"], np.array([[1.0 if i % 2 else -1.0] for i in range(20)] + [[1.0]]))
        new = Group("", "NEW")
        found = baseline_means("linear_given", training(**kinds), [new], vectors=vectors)[new]
        np.testing.assert_allclose(found, up, atol=0.3)  # one component of the means cannot say more


class TestNearest:
    def test_takes_the_change_of_the_perturbation_most_alike(self):
        vectors = GeneFactors.given(["A", "B", "D"], np.array([[1, 0], [0, 1], [0.1, 1]]))
        found = baseline_means("nearest_given", TWO, [D], vectors=vectors)[D]
        assert found.tolist() == TWO.means[Group("", "B")].tolist()

    def test_is_the_mean_change_without_a_vector(self):
        unknown = Group("", "UNMEASURED")
        assert baseline_means("nearest", TWO, [unknown])[unknown].tolist() == [0.5, 0.5, 2, 3]


def test_without_training_conditions_there_is_no_change_alone():
    assert baseline_names(training(), [AB]) == ["no_change"]


class TestCells:
    def found(self):
        predictions = read(only(screen(), HELD_OUT), screen())
        means = baseline_means("additive", predictions.training, predictions.comparison.groups)
        return baseline_cells(means, predictions.comparison.real), means, predictions.comparison

    def test_have_the_predicted_mean_about_and_the_exact_one_for_scores(self):
        cells, means, comparison = self.found()
        for group in comparison.groups:
            np.testing.assert_array_equal(cells.mean(group), means[group])
            own = cells.cells(group).toarray()
            assert own.shape[0] == cells.size(group) == 30
            np.testing.assert_allclose(own.mean(axis=0), np.maximum(means[group], 0), atol=0.6)

    def test_of_the_control_are_the_real_ones(self):
        cells, _, comparison = self.found()
        control = Group("", CONTROL)
        assert (cells.cells(control) != comparison.real.cells(control)).nnz == 0

    def test_of_no_change_are_control_cells(self):
        _, _, comparison = self.found()
        training = read(only(screen(), HELD_OUT), screen()).training
        cells = baseline_cells(baseline_means("no_change", training, comparison.groups), comparison.real)
        control = comparison.real.cells(comparison.groups[0].control).toarray()
        for row in cells.cells(comparison.groups[0]).toarray():
            assert np.abs(control - row).max(axis=1).min() < 1e-6


def test_scored_groups_know_how_many_of_their_genes_were_seen():
    found = read(only(screen(), HELD_OUT), screen())
    seen = dict(zip((group.perturbation for group in found.comparison.groups), found.num_seen, strict=True))
    assert seen == {"GENE005": 0, "GENE006": 0, "GENE001+GENE002": 2, "GENE003+GENE004": 2, "GENE001+GENE007": 1}


@pytest.mark.parametrize("name", ["linear", "nearest", "perturbed_mean"])
def test_order_of_training_conditions_never_matters(name):
    means = dict(reversed(list(TWO.means.items())))
    turned = Training(GENES, means, TWO.controls)
    np.testing.assert_allclose(baseline_means(name, turned, [D])[D], baseline_means(name, TWO, [D])[D], atol=1e-12)
