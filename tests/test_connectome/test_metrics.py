from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from scmodelforge.connectome import (
    connectivity_matrix,
    connectivity_metrics,
    geodesic_distance,
    metrics_by_group,
    pair_groups,
)
from tests.test_connectome.brains import brain


def positive_definite(size: int, seed: int) -> np.ndarray:
    root = np.random.default_rng(seed).normal(size=(size, 2 * size))
    return root @ root.T / (2 * size)


class TestScores:
    @given(seed=st.integers(0, 1000), ties=st.booleans())
    def test_equal_those_of_scipy_and_scikit_learn(self, seed, ties):
        random = np.random.default_rng(seed)
        true = random.normal(size=40)
        found = true + random.normal(size=40)
        if ties:
            true, found = true.round(), found.round()
        scores = connectivity_metrics(true, found)
        assert scores["mse"] == pytest.approx(mean_squared_error(true, found))
        assert scores["mae"] == pytest.approx(mean_absolute_error(true, found))
        assert scores["r2"] == pytest.approx(r2_score(true, found))
        assert scores["pearson_r"] == pytest.approx(pearsonr(true, found).statistic)
        assert scores["spearman_r"] == pytest.approx(spearmanr(true, found).statistic)

    def test_are_perfect_for_the_truth(self):
        true = np.array([0.1, 0.5, -0.2])
        scores = connectivity_metrics(true, true)
        assert scores == pytest.approx({"mse": 0, "mae": 0, "pearson_r": 1, "spearman_r": 1, "r2": 1})

    def test_of_a_constant_have_no_correlation(self):
        scores = connectivity_metrics(np.array([0.1, 0.5, -0.2]), np.full(3, 0.1 + 0.2))
        assert np.isnan(scores["pearson_r"])
        assert np.isnan(scores["spearman_r"])
        assert np.isfinite(scores["r2"])

    def test_of_one_pair_are_its_error(self):
        scores = connectivity_metrics([0.5], [0.2])
        assert scores["mae"] == pytest.approx(0.3)
        assert np.isnan(scores["pearson_r"])
        assert np.isnan(scores["r2"])

    def test_of_matrices_leave_out_the_diagonal(self):
        true, found = positive_definite(6, 0), positive_definite(6, 1)
        off = ~np.eye(6, dtype=bool)
        scores = connectivity_metrics(true, found)
        assert scores.pop("geodesic") == pytest.approx(geodesic_distance(true, found))
        assert scores == pytest.approx(connectivity_metrics(true[off], found[off]))

    def test_of_matrices_count_a_missing_diagonal_as_one(self):
        true, found = 0.1 * positive_definite(6, 0), 0.1 * positive_definite(6, 1)
        for matrix in (true, found):
            np.fill_diagonal(matrix, np.nan)
        ones = [np.where(np.eye(6, dtype=bool), 1.0, matrix) for matrix in (true, found)]
        assert connectivity_metrics(true, found)["geodesic"] == pytest.approx(geodesic_distance(*ones))

    @pytest.mark.parametrize(
        ("true", "found", "words"),
        [
            (np.zeros(3), np.zeros(4), r"targets have the shape \(3,\) and predictions \(4,\)"),
            (np.zeros((3, 2)), np.zeros((3, 2)), "one value for each pair"),
            (np.zeros(0), np.zeros(0), "one value for each pair"),
            (np.array([0.0, np.nan]), np.zeros(2), "NaN or infinite"),
        ],
    )
    def test_refuse_what_is_no_prediction_of_the_targets(self, true, found, words):
        with pytest.raises(ValueError, match=words):
            connectivity_metrics(true, found)


class TestGeodesicDistance:
    def test_is_the_published_formula(self):
        one, other = positive_definite(7, 0), positive_definite(7, 1)
        root = fractional_matrix_power(one, -0.5)
        values = np.linalg.eigvalsh(root @ other @ root)
        assert geodesic_distance(one, other) == pytest.approx(np.sqrt((np.log(values) ** 2).sum()))

    def test_is_a_distance(self):
        one, other, third = (positive_definite(7, seed) for seed in range(3))
        assert geodesic_distance(one, one) == pytest.approx(0, abs=1e-6)
        assert geodesic_distance(one, other) == pytest.approx(geodesic_distance(other, one))
        through = geodesic_distance(one, third) + geodesic_distance(third, other)
        assert geodesic_distance(one, other) <= through + 1e-9

    def test_is_that_of_the_logarithms_of_diagonals(self):
        one, other = np.array([1.0, 2.0, 0.5]), np.array([3.0, 1.0, 0.5])
        expected = np.linalg.norm(np.log(one) - np.log(other))
        assert geodesic_distance(np.diag(one), np.diag(other)) == pytest.approx(expected)

    def test_does_not_change_with_the_basis(self):
        one, other = positive_definite(5, 0), positive_definite(5, 1)
        basis = np.random.default_rng(2).normal(size=(5, 5)) + 3 * np.eye(5)
        moved = geodesic_distance(basis @ one @ basis.T, basis @ other @ basis.T)
        assert moved == pytest.approx(geodesic_distance(one, other))

    def test_lifts_eigenvalues_to_the_floor(self):
        assert geodesic_distance(np.diag([1.0, -5.0]), np.diag([1.0, 1.0])) == pytest.approx(np.log(1000))
        assert geodesic_distance(np.diag([1.0, 0.0]), np.eye(2), floor=0.1) == pytest.approx(np.log(10))

    def test_takes_the_symmetric_part(self):
        one, other = positive_definite(5, 0), positive_definite(5, 1)
        skew = np.triu(np.ones((5, 5)), 1)
        assert geodesic_distance(one + skew - skew.T, other) == pytest.approx(geodesic_distance(one, other))

    @pytest.mark.parametrize(
        ("other", "words"), [(np.eye(3), "two square ones of one size"), (np.full((2, 2), np.nan), "NaN")]
    )
    def test_refuses_what_is_no_whole_matrix(self, other, words):
        with pytest.raises(ValueError, match=words):
            geodesic_distance(np.eye(2), other)


class TestGroups:
    def test_are_by_distance_strength_hemispheres_and_network(self):
        data = brain(12)
        groups = pair_groups(data, range(len(data)))
        first, second = data.pairs().T
        coords = data.coords.numpy()
        apart = np.linalg.norm(coords[first] - coords[second], axis=1)
        for by, values in (("distance", apart), ("strength", data.targets())):
            order = [
                values[groups[by] == name]
                for name in {"distance": ("short", "mid", "long")}.get(by, ("weak", "middle", "strong"))
            ]
            assert [len(part) for part in order] == [44, 44, 44]
            assert order[0].max() <= order[1].min()
            assert order[1].max() <= order[2].min()
        np.testing.assert_array_equal(
            groups["hemispheres"] == "within", (coords[first, 0] < 0) == (coords[second, 0] < 0)
        )
        np.testing.assert_array_equal(
            groups["network"] != "between networks", data.networks[first] == data.networks[second]
        )

    def test_are_those_of_the_data_set_whatever_is_scored(self):
        data = brain(12)
        few = np.array([4, 5, 60])
        for by, labels in pair_groups(data, few).items():
            np.testing.assert_array_equal(labels, pair_groups(data, range(len(data)))[by][few])

    def test_that_are_not_known_are_left_out(self):
        data = brain(12, coords=None, networks=None)
        assert set(pair_groups(data, [0, 1])) == {"strength"}

    def test_are_scored_each_alone(self):
        data = brain(12)
        found = data.targets() + np.random.default_rng(0).normal(size=len(data))
        records = metrics_by_group(data, range(len(data)), found)
        labels = pair_groups(data, range(len(data)))
        for record in records:
            chosen = labels[record["by"]] == record["group"]
            assert record["num_pairs"] == chosen.sum()
            assert record["mse"] == pytest.approx(((found - data.targets())[chosen] ** 2).mean())
        assert {record["by"] for record in records} == set(labels)
        assert [record["group"] for record in records if record["by"] == "distance"] == ["short", "mid", "long"]


def test_a_matrix_has_predictions_where_there_are_any():
    data = brain(5)
    matrix = connectivity_matrix(data, [data.index_of(3, 1), data.index_of(0, 4)], np.array([7.0, 8.0]))
    assert matrix[3, 1] == 7
    assert matrix[0, 4] == 8
    assert np.isnan(matrix).sum() == 23
