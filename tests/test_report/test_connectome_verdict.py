"""The page says who won as the command did, and what must be known to read the scores."""

from __future__ import annotations

from itertools import count

import pytest

from scmodelforge.report.connectome_run import ConnectomeRun, read_connectome_run
from scmodelforge.report.connectome_scores import plus_minus
from scmodelforge.report.connectome_verdict import cautions, verdict, what_was_done
from scmodelforge.workflows.connectome.standing import comparisons, standings
from scmodelforge.workflows.connectome.standing import verdict as said
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
    def test_is_what_the_command_said(self, tmp_path):
        rows = score_rows(MEANS)
        found = standings(rows)
        gaps = comparisons(found, 0.25)
        made = make_connectome_run(tmp_path / "run", rows=rows, comparison=[each.to_dict() for each in gaps])
        sentences = verdict(read_connectome_run(made))
        assert [text.lower() for text in sentences] == [f"{line}.".lower() for line in said(found, gaps)]
        assert sentences[0].startswith("Best on pairs of two held-out regions: cross_attention (genes), r 0.7")

    def test_intervals_are_those_of_the_file(self, run_with):
        means = MEANS | {"places_kernel": 0.9}
        first, rank, against = verdict(run_with(means, ("cross_attention", "places_kernel", -0.2, 0.05)))
        assert first.startswith("Best on pairs of two held-out regions: places_kernel (coordinates), r 0.9")
        assert rank.startswith("The model cross_attention is number 2 of 3, r 0.7")
        assert against.startswith("Cross_attention is 0.200 below places_kernel")
        assert "[-0.250, -0.150] does not hold 0" in against

    def test_what_was_not_compared_is_not_told(self, run_with):
        assert len(verdict(run_with(MEANS))) == 1

    def test_no_score_at_all(self, run_with):
        rows = [row | {"inner": {"pearson_r": None}} for row in score_rows({"bilinear": 0.5})]
        assert verdict(run_with({}, rows=rows))[0].startswith("No predictor has a correlation")

    def test_a_predictor_of_few_folds_is_not_ranked(self, run_with):
        rows = [
            row if row["name"] != "cross_attention" or row["seed"] == 0 else row | {"inner": {"pearson_r": None}}
            for row in score_rows(MEANS)
        ]
        sentences = verdict(run_with({}, ("places_kernel", "bilinear", 0.1), rows=rows))
        assert sentences[0].startswith("Best on pairs of two held-out regions: places_kernel")
        assert sentences[-1] == "Cross_attention has an r on 3 of 6 folds and is not ranked."


class TestCautions:
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
