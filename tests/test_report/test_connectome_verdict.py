"""Who won, in words: a model, a baseline, or nobody; and what must be known to read the scores."""

from __future__ import annotations

from itertools import count

import pytest

from scmodelforge.report.connectome_run import ConnectomeRun, read_connectome_run
from scmodelforge.report.connectome_scores import plus_minus
from scmodelforge.report.connectome_verdict import cautions, verdict, what_was_done
from tests.test_report.connectome_runs import difference, make_connectome_run, score_rows

MEANS = {"cross_attention": 0.7, "bilinear": 0.5, "places_kernel": 0.6}


@pytest.fixture
def run_with(tmp_path):
    number = count()

    def run(means: dict[str, float], *differences, rows=None, **given) -> ConnectomeRun:
        root = tmp_path / f"run{next(number)}"
        comparison = [difference(*each) for each in differences]
        made = make_connectome_run(
            root, rows=score_rows(means) if rows is None else rows, comparison=comparison, **given
        )
        return read_connectome_run(made)

    return run


class TestVerdict:
    def test_a_model_wins(self, run_with):
        run = run_with(
            MEANS, ("cross_attention", "bilinear", 0.2, 0.1), ("places_kernel", "cross_attention", -0.1, 0.05)
        )
        first, second = verdict(run)
        assert first.startswith("A model wins: cross_attention (model, knows genes) has the best mean Pearson r 0.7")
        assert second == (
            "It is better than places_kernel and bilinear on the same folds (95 % interval of the difference)."
        )

    def test_a_baseline_wins(self, run_with):
        means = MEANS | {"places_kernel": 0.9}
        text = " ".join(verdict(run_with(means, ("cross_attention", "places_kernel", -0.2))))
        assert text.startswith("A baseline wins: places_kernel (baseline, knows places)")
        assert "It is better than cross_attention on the same folds" in text
        assert "Against bilinear there is no interval, so that difference may be chance." in text
        assert "The best model, cross_attention, has 0.7" in text

    def test_nothing_can_be_told_apart(self, run_with):
        run = run_with(MEANS, ("cross_attention", "bilinear", 0.2, 0.3), ("cross_attention", "places_kernel", 0.1, 0.2))
        (text,) = verdict(run)
        assert text.startswith("Nothing can be told apart: cross_attention (model, knows genes) has the best mean")
        assert text.endswith("but the 95 % interval of its difference from each other predictor holds 0.")

    def test_an_interval_that_touches_zero_does_not_win(self, run_with):
        run = run_with({"cross_attention": 0.7, "bilinear": 0.5}, ("cross_attention", "bilinear", 0.25, 0.25))
        assert verdict(run)[0].startswith("Nothing can be told apart")

    def test_neither_kind_wins_where_the_best_of_the_other_is_near(self, run_with):
        run = run_with(MEANS, ("cross_attention", "bilinear", 0.2, 0.1), ("cross_attention", "places_kernel", 0.1, 0.2))
        text = " ".join(verdict(run))
        assert text.startswith("Neither models nor baselines win: cross_attention")
        assert "but it cannot be told apart from places_kernel." in text
        assert "It is better than bilinear on the same folds" in text

    def test_a_tie_of_two_baselines_does_not_take_the_win_from_them(self, run_with):
        means = MEANS | {"places_kernel": 0.9, "both_kernel": 0.88}
        run = run_with(
            means, ("places_kernel", "cross_attention", 0.2, 0.1), ("places_kernel", "both_kernel", 0.02, 0.1)
        )
        text = " ".join(verdict(run))
        assert text.startswith("A baseline wins: places_kernel")
        assert "It cannot be told apart from both_kernel." in text

    def test_without_intervals_nobody_wins(self, run_with):
        for run in (run_with(MEANS), run_with(MEANS, ("cross_attention", "places_kernel", 0.1, None))):
            assert verdict(run)[0].startswith("No winner can be named: cross_attention")
            assert verdict(run)[0].endswith("but no interval of a difference was computed.")

    def test_baselines_alone(self, run_with):
        run = run_with({"bilinear": 0.5, "places_kernel": 0.7}, ("places_kernel", "bilinear", 0.2))
        assert verdict(run)[0].startswith("The best of the baselines: places_kernel")

    def test_one_predictor(self, run_with):
        (text,) = verdict(run_with({"bilinear": 0.5}))
        assert text.startswith("Only bilinear (baseline, knows genes) can be ranked")

    def test_no_score_at_all(self, run_with):
        rows = [row | {"inner": {"pearson_r": None}} for row in score_rows({"bilinear": 0.5})]
        assert verdict(run_with({}, rows=rows)) == ["None of the predictors has a Pearson r that is defined."]

    def test_a_predictor_of_few_folds_is_not_ranked(self, run_with):
        rows = [row for row in score_rows(MEANS) if row["name"] != "cross_attention" or row["seed"] == 0]
        run = run_with({}, ("places_kernel", "bilinear", 0.1), rows=rows)
        assert verdict(run)[0].startswith("The best of the baselines: places_kernel")
        assert "cross_attention has a score on 3 of 6 folds and is left out of the ranking." in cautions(run)

    def test_errors_are_better_where_they_are_lower(self, run_with):
        rows = [row | {"inner": {"mse": row["inner"]["pearson_r"]}} for row in score_rows(MEANS)]
        assert "bilinear (baseline, knows genes) has the best mean MSE 0.5" in verdict(run_with({}, rows=rows))[0]


class TestCautions:
    def test_places_alone_stand_beside_genes_alone(self, run_with):
        first, *_ = cautions(run_with(MEANS))
        assert first.startswith("At best, genes alone (cross_attention) reach 0.7")
        assert ", places alone (places_kernel) 0.6" in first
        first, *_ = cautions(run_with(MEANS | {"places_kernel": 0.9}))
        assert first.startswith("At best, places alone (places_kernel) reach 0.9")

    def test_a_missing_row_of_places_is_said(self, run_with):
        (only,) = cautions(run_with({"cross_attention": 0.7, "bilinear": 0.5}))
        assert "these scores do not show that genes matter" in only

    def test_splits_of_pairs_are_called_what_they_are(self, run_with):
        run = run_with(MEANS, config={"connectome": {"split": {"strategy": "pair_wise"}}})
        assert any("both regions of nearly every scored pair were in training" in text for text in cautions(run))
        assert "Pairs were held out at random" in what_was_done(run)[1]

    @pytest.mark.parametrize(
        ("strategy", "words"),
        [
            ("random", "held out at random, 3 folds"),
            ("spatial", "in blocks of neighbours"),
            ("network", "by whole networks"),
            ("own", "by the strategy 'own'"),
        ],
    )
    def test_strategies_are_told(self, run_with, strategy, words):
        run = run_with(MEANS, config={"split": {"strategy": strategy}})
        assert words in what_was_done(run)[1]


class TestPlusMinus:
    @pytest.mark.parametrize(
        ("values", "text"),
        [
            ([], "-"),
            ([0.5], "0.500"),
            ([0.6, 0.8], "0.700 ± 0.141"),
            ([0.01, 0.02], "0.0150 ± 0.0071"),
            ([-0.25, 0.25], "0.000 ± 0.354"),
            ([-0.002, 0.2, 0.4], "0.199 ± 0.201"),
            ([-4000.0, 2000.0], "-1,000 ± 4,243"),
            ([1e-5, 3e-5], "2.00e-5 ± 1.4e-5"),
        ],
    )
    def test_has_the_decimals_of_the_mean(self, values, text):
        assert plus_minus(values) == text
