from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge.eval import metrics

OURS_AND_SKLEARN = [
    (metrics.accuracy, "accuracy_score", {}),
    (metrics.balanced_accuracy, "balanced_accuracy_score", {}),
    (metrics.macro_f1, "f1_score", {"average": "macro"}),
    (metrics.weighted_f1, "f1_score", {"average": "weighted"}),
    (metrics.cohen_kappa, "cohen_kappa_score", {}),
    (metrics.normalized_mutual_information, "normalized_mutual_info_score", {}),
    (metrics.adjusted_rand_index, "adjusted_rand_score", {}),
]


@st.composite
def two_labellings(draw):
    n = draw(st.integers(5, 60))
    codes = st.lists(st.integers(0, 4), min_size=n, max_size=n)
    return np.array(draw(codes)), np.array(draw(codes))


class TestScoresOfATable:
    @pytest.mark.parametrize(("ours", "theirs", "options"), OURS_AND_SKLEARN)
    @given(pair=two_labellings())
    def test_equal_those_of_scikit_learn(self, ours, theirs, options, pair):
        import sklearn.metrics

        true, found = pair
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            warnings.simplefilter("ignore")
            expected = getattr(sklearn.metrics, theirs)(true, found, **options)
        if theirs == "cohen_kappa_score" and len(np.unique([true, found])) == 1:
            expected = np.nan  # versions of scikit-learn differ on it
        got = float(ours(metrics.count_table(true, found, (5, 5))))
        assert got == pytest.approx(expected, abs=1e-12, nan_ok=True)

    def test_score_each_resample_of_a_stack(self):
        tables = np.random.default_rng(0).integers(0, 9, (6, 3, 3))
        for score, _, _ in OURS_AND_SKLEARN:
            np.testing.assert_allclose(score(tables), [score(table) for table in tables])

    def test_do_not_depend_on_the_names_of_clusters(self):
        table = np.array([[8, 1, 0], [0, 5, 3], [2, 0, 9]])
        for score in (metrics.normalized_mutual_information, metrics.adjusted_rand_index):
            assert score(table[:, [2, 0, 1]]) == pytest.approx(score(table), abs=1e-12)


class TestBootstrap:
    def test_interval_holds_the_true_share_about_as_often_as_promised(self):
        rng = np.random.default_rng(0)
        hits = 0
        for trial in range(100):
            right = rng.binomial(200, 0.7)
            draws = metrics.bootstrap_tables(np.array([[right, 200 - right], [0, 0]]), seed=trial, purpose="test")
            low, high = metrics.interval(metrics.accuracy(draws))
            hits += low <= 0.7 <= high
        assert 85 <= hits <= 100

    def test_mean_keeps_groups_equal_in_weight(self):
        values, groups = np.array([0.0] * 50 + [1.0] * 2), np.array([0] * 50 + [1] * 2)
        draws = metrics.bootstrap_mean(values, seed=0, purpose="test", groups=groups)
        np.testing.assert_array_equal(draws, 0.5)

    def test_is_seeded(self):
        draws = [metrics.bootstrap_mean(np.arange(9.0), seed=seed, purpose="test") for seed in (1, 1, 2)]
        np.testing.assert_array_equal(draws[0], draws[1])
        assert (draws[0] != draws[2]).any()

    def test_interval_around_a_value_holds_it_and_ends_at_one(self):
        low, high = metrics.interval(np.linspace(0.6, 0.8, 50), around=0.95)
        assert low < 0.95 <= high <= 1.0

    def test_interval_of_nothing_defined_is_none(self):
        assert metrics.interval(np.array([np.nan])) is None
