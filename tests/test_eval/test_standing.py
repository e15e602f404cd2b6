"""Who gets a star: the best, and all that cannot be told apart from it; never what does not compete."""

from __future__ import annotations

import pytest

from scmodelforge.eval.base import Record
from scmodelforge.eval.compare import compare_records
from scmodelforge.eval.harness import summary_table, winners
from scmodelforge.eval.standing import best_names


def row(*, higher_is_better: bool = True, **scores) -> dict[str, Record]:
    """Return records by representation; of a score alone, or of a score and half of its interval."""
    found = {}
    for name, score in scores.items():
        value, half = score if isinstance(score, tuple) else (score, None)
        bounds = None if half is None else [value - half, value + half]
        found[name] = Record("b", "d", name, "m", value, bounds, n=50, higher_is_better=higher_is_better)
    return found


class TestNearTies:
    def test_the_best_alone_has_a_star_where_it_can_be_told_apart(self):
        assert best_names(row(model=(0.9, 0.02), pca=(0.8, 0.02))) == ["model"]

    def test_what_cannot_be_told_apart_from_the_best_has_one_too_whoever_owns_it(self):
        assert best_names(row(model=(0.81, 0.05), pca=(0.8, 0.05), random=(0.1, 0.05))) == ["model", "pca"]

    def test_the_direction_is_that_of_the_metric(self):
        assert best_names(row(model=(2.0, 0.1), pca=(1.0, 0.1), higher_is_better=False)) == ["pca"]

    def test_a_score_without_an_interval_counts_as_exact(self):
        assert best_names(row(model=(0.8, 0.05), pca=0.84)) == ["model", "pca"]
        assert best_names(row(model=(0.8, 0.03), pca=0.84)) == ["pca"]
        assert best_names(row(model=0.8, pca=0.8, hvg=0.79)) == ["model", "pca"]

    def test_wide_intervals_over_groups_tie_what_cells_alone_would_tell_apart(self):
        found = row(model=(0.9, 0.01), pca=(0.8, 0.01))
        for record in found.values():
            record.group_interval, record.group_key = [record.value - 0.2, record.value + 0.1], "donor"
        assert best_names(found) == ["model", "pca"]

    @pytest.mark.parametrize("half", [0.02, 0.05, 0.069, 0.0725, 0.2])
    def test_the_rule_is_that_of_comparing_two_runs(self, half):
        """0.1 lies in the interval of the difference if the root of the sum of squares is longer."""
        pair = row(model=(0.7, half), pca=(0.8, half))
        known = {"dataset_hash": "d", "split_hash": "s", "representation": "model"}
        ours, theirs = (Record(**{**each.to_dict(), **known}) for each in pair.values())
        (compared,) = compare_records([ours], [theirs])
        assert (compared.better == "undecided") == (best_names(pair) == ["model", "pca"]) == (2 * half**2 > 0.01)

    def test_are_counted_for_each_of_them(self):
        assert winners(row(model=(0.81, 0.05), pca=(0.8, 0.05)).values()) == {"model": 1, "pca": 1}
        assert winners(row(model=(0.9, 0.02), pca=(0.8, 0.02)).values()) == {"model": 1}


class TestOutOfCompetition:
    @pytest.mark.parametrize("name", ["target_degree", "tf_degree", "permuted_network", "permuted_labels"])
    @pytest.mark.parametrize("run", ["", "a:"])
    def test_what_reads_the_truth_or_has_another_one_never_has_a_star_and_is_marked(self, name, run):
        model = Record("b", "d", "model", "m", 0.6, n=9, baselines={"random": 0.5, f"{run}{name}": 0.99})
        assert best_names({"model": model}) == ["model"]
        heading, cells = summary_table([model])
        assert heading == ["metric", "model", "random", f"{run}{name}†", "best"]
        assert cells[1:] == ["0.600*", "0.500", "0.990", "model"]

    def test_a_constant_guess_is_made_of_training_labels_and_may_win(self):
        model = Record("b", "d", "model", "m", 0.6, n=9, baselines={"majority": 0.7})
        assert best_names({"model": model}) == ["majority"]

    @pytest.mark.parametrize("name", ["trained_on", "trained_on_query"])
    def test_a_model_trained_on_the_scored_cells_never_has_a_star_and_says_so(self, name):
        found = row(model=(0.9, 0.01), pca=(0.8, 0.01))
        for record in found.values():  # a baseline stands beside the model, and is none
            record.params[name] = True
        assert best_names(found) == ["pca"]
        assert summary_table(found.values())[1][1].startswith("0.900‡")

    @pytest.mark.parametrize(
        "params", [{"trained_on": False}, {"trained_on": None}, {"trained_on_reference": True}, {}]
    )
    def test_a_model_that_was_not_does(self, params):
        found = row(model=(0.9, 0.01), pca=(0.8, 0.01))
        found["model"].params |= params
        assert best_names(found) == ["model"]
