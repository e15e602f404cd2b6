"""Which scores can be compared, how far they are apart, and several runs in one table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.eval.base import Record
from scmodelforge.eval.compare import compare_records
from scmodelforge.eval.harness import summary_table
from scmodelforge.eval.merging import Result, merged

FIRST = Record(
    "b", "heldout", "model", "m", 0.6, [0.5, 0.7], n=50, dataset_hash="d" * 64, split_hash="s" * 64,
    label_key="cell_type", params={"k": 15, "seed": 0}, library="scmodelforge 1; numpy 2", model_id="a@10",
)  # fmt: skip


def compared(**changes):
    (found,) = compare_records([FIRST], [replace(FIRST, **changes)])
    return found


class TestObstacles:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"dataset_hash": "e" * 64}, "different data (dddddddd and eeeeeeee)"),
            ({"dataset_hash": None}, "the data of one of them is not known (no dataset_hash)"),
            ({"split_hash": "t" * 64}, "different split (ssssssss and tttttttt)"),
            ({"label_key": "lineage"}, "different label column (cell_type and lineage)"),
            ({"batch_key": "batch"}, "different batch column (none and batch)"),
            ({"n": 1500}, "different number of cells (50 and 1,500)"),
            ({"params": {"k": 30, "seed": 0}}, "different k (15 and 30)"),
            ({"params": {"seed": 0}}, "different k (15 and none)"),
            ({"params": {"k": 15, "seed": 0, "subsample_seed": 1}}, "different subsample_seed (none and 1)"),
            ({"params": {"k": 15, "seed": 0, "scored_genes": "f"}}, "different scored_genes (none and f)"),
            ({"value": None, "skipped_reason": "one batch"}, "not scored in one of them: one batch"),
        ],
    )
    def test_are_named(self, changes, words):
        found = compared(**changes)
        assert found.obstacles == [words]
        assert (found.difference, found.interval, found.better) == (None, None, "undecided")

    def test_another_variant_is_another_metric(self):
        assert compare_records([FIRST], [replace(FIRST, metric="m_knn")]) == []

    def test_versions_and_seeds_are_reservations_only(self):
        found = compared(library="scmodelforge 1; numpy 3", params={"k": 15, "seed": 4})
        assert found.obstacles == []
        assert found.reservations == [
            "other versions (numpy 2 and numpy 3)",
            "other seeds of probes and intervals (0 and 4)",
        ]

    def test_what_came_out_may_differ(self):
        assert compared(params={"k": 15, "seed": 0, "converged": False, "num_duplicates": 2}).obstacles == []

    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            ({"between_batches_before": 0.4, "between_batches": 0.1}, {"between_batches_before": 0.3}),
            ({"labels_in_pieces": []}, {"labels_in_pieces": ["B cell"]}),
            ({"num_predicted_not_scored": 0}, {"num_predicted_not_scored": 7, "num_training_conditions": 3}),
            ({"num_predicted_not_measured": 2}, {"num_predicted_not_measured": 0, "num_genes_not_measured": 4}),
            ({"layer": 1, "head": 0, "direction": "rows"}, {"layer": 2, "head": 3, "direction": "columns"}),
            ({"pairs_in_no_cell": 8}, {"pairs_in_no_cell": 1}),
            ({"unseen_labels": [], "num_unseen": 0}, {"unseen_labels": ["novel"], "num_unseen": 5}),
        ],
    )
    def test_what_a_model_or_its_predictions_made_of_the_same_cells_may_differ(self, ours, theirs):
        first, second = (replace(FIRST, params=FIRST.params | params) for params in (ours, theirs))
        (found,) = compare_records([first], [second])
        assert (found.obstacles, found.reservations) == ([], [])

    def test_labels_that_cannot_be_given_must_be_the_same_where_they_are_told_apart(self):
        first, second = (
            replace(FIRST, metric="unknown_auroc_head", params={"unseen_labels": labels}) for labels in (["a"], ["b"])
        )
        (found,) = compare_records([first], [second])
        assert found.obstacles == ["different unseen_labels (['a'] and ['b'])"]

    def test_cells_that_a_score_leaves_out_are_told(self):
        """Cells outside the large pieces of a graph, say, of which each model has its own."""
        first, second = replace(FIRST, n=48, n_skipped=2), replace(FIRST, n=45, n_skipped=5)
        (found,) = compare_records([first], [second])
        assert found.obstacles == []
        assert found.reservations == ["not as many are left out (48 and 45 of 50 scored)"]

    def test_what_a_model_was_trained_on_is_told(self):
        found = compared(params={**FIRST.params, "trained_on_query": True})
        assert found.obstacles == []
        assert found.reservations == ["different trained_on_query (none and True)"]

    @pytest.mark.parametrize(("ours", "theirs"), [(True, False), (False, True)])
    def test_cells_that_one_of_two_models_was_trained_on_are_one(self, ours, theirs):
        first, second = (replace(FIRST, params=FIRST.params | {"trained_on": known}) for known in (ours, theirs))
        (found,) = compare_records([first], [second])
        assert found.obstacles == [f"different trained_on ({ours} and {theirs})"]
        baselines = [replace(each, representation="pca") for each in (first, second)]
        (found,) = compare_records(baselines[:1], baselines[1:], representation="pca")
        assert found.obstacles == []

    @pytest.mark.parametrize("known", [True, False])
    def test_what_is_not_known_of_one_model_is_told(self, known):
        first, second = (replace(FIRST, params=FIRST.params | {"trained_on": each}) for each in (None, known))
        (found,) = compare_records([first], [second])
        assert (found.obstacles, found.reservations) == ([], [f"different trained_on (none and {known})"])

    def test_a_score_that_is_not_there_is_one_reason(self):
        """A record without a value lists no settings."""
        found = compared(value=None, n=0, n_skipped=50, params={}, skipped_reason="one batch")
        assert found.obstacles == ["not scored in one of them: one batch"]

    def test_a_file_of_two_models_is_refused(self):
        with pytest.raises(DataError, match="eval/b/heldout/m is there twice for 'model' \\(of a@10 and c@10\\)"):
            compare_records([FIRST, replace(FIRST, model_id="c@10")], [FIRST])


class TestDifference:
    def test_has_an_unpaired_interval_of_the_two(self):
        """Of symmetric intervals the halves add as the sides of a right angle do."""
        found = compared(value=0.9, interval=[0.75, 1.05])
        assert found.difference == pytest.approx(0.3)
        half = np.hypot(0.1, 0.15)
        assert found.interval == pytest.approx([0.3 - half, 0.3 + half])
        assert (found.method, found.better) == ("unpaired", "second")

    def test_of_equal_scores_is_undecided_and_lower_may_be_better(self):
        assert compared().better == "undecided"
        lower = replace(FIRST, higher_is_better=False)
        (found,) = compare_records([lower], [replace(lower, value=0.9, interval=[0.85, 0.95])])
        assert found.better == "first"

    def test_without_intervals_says_so(self):
        found = compared(interval=None)
        assert (found.interval, found.method, found.better) == (None, "no interval", "undecided")

    def test_over_groups_needs_the_same_groups(self):
        ours = replace(FIRST, group_interval=[0.4, 0.8], group_key="donor")
        (same,) = compare_records([ours], [ours])
        (other,) = compare_records([ours], [replace(ours, group_key="batch")])
        assert same.group_interval == pytest.approx([-np.hypot(0.2, 0.2), np.hypot(0.2, 0.2)])
        assert other.group_interval is None

    def test_is_paired_where_records_have_what_the_score_is_the_mean_of(self):
        values = np.random.default_rng(0).random(40)
        ours, theirs = (self.of_items(values + shift) for shift in (0.0, 0.01))
        (found,) = compare_records([ours], [theirs])
        assert found.method == "paired over 40 items of per_perturbation"
        assert found.interval == pytest.approx([0.01, 0.01])  # every item gains as much
        assert found.better == "second"

    def test_is_not_paired_if_the_score_is_not_the_mean_of_items(self):
        ours = self.of_items(np.linspace(0, 1, 9))
        assert compare_records([ours], [replace(ours, value=0.1)])[0].method == "unpaired"

    def test_of_other_items_is_none(self):
        ours, theirs = (self.of_items(np.linspace(0, 1, 3), first=first) for first in (0, 1))
        (found,) = compare_records([ours], [theirs])
        assert found.obstacles == [
            "scores of different items (per_perturbation: the first only p0, the second only p3)"
        ]
        assert (found.difference, found.method) == (None, "")

    def test_of_items_of_which_not_the_same_are_left_out_says_so(self):
        """A prediction of no change has no correlation, say."""
        ours, theirs = self.of_items(np.linspace(0, 1, 9)), self.of_items(np.linspace(0, 1, 9))
        for record, left_out in ((ours, 2), (theirs, 6)):
            record.tables["per_perturbation"]["m"][left_out] = None
        (found,) = compare_records([ours], [theirs])
        assert found.obstacles == []
        assert found.reservations == ["not the same are left out (per_perturbation: p2, p6 scored in one of them)"]
        assert found.method == "unpaired"
        (found,) = compare_records([ours], [replace(theirs, tables={})])  # which does not say
        assert found.reservations == []

    def test_has_no_interval_turned_round_by_one_that_does_not_hold_its_score(self):
        """Percentiles of resamples may lie on one side of the score; the other has no length then."""
        found = compared(value=0.9, interval=[0.92, 0.97])
        assert found.interval == pytest.approx([0.3 - 0.1, 0.3 + np.hypot(0.07, 0.1)])

    @staticmethod
    def of_items(values, first=0):
        table = {"perturbation": [f"p{first + i}" for i in range(len(values))], "m": values.tolist()}
        return replace(FIRST, value=float(values.mean()), tables={"per_perturbation": table})


class TestMerged:
    def records(self, run, value, **changes):
        known = {"interval": [value - 0.01, value + 0.01], "baselines": {"pca": 0.7, "majority": 0.2}}
        model = replace(FIRST, value=value, **known, **changes)
        pca = replace(model, representation="pca", value=0.7, interval=[0.69, 0.71], baselines={})
        return [Result(run, model), Result(run, pca)]

    def test_one_run_is_as_it_is(self):
        results = self.records("a", 0.6)
        assert merged(results) == [each.record for each in results]

    def test_runs_are_columns_and_a_baseline_that_is_the_same_is_one(self):
        heading, row = summary_table(merged([*self.records("a", 0.6), *self.records("b", 0.8)]))
        assert heading == ["metric", "a", "b", "pca", "majority", "best"]
        assert [cell[:5].rstrip("*") for cell in row[1:5]] == ["0.600", "0.800", "0.700", "0.200"]
        assert row[-1] == "b"

    def test_a_baseline_that_is_not_the_same_stands_with_each_run(self):
        other = self.records("b", 0.8)
        other[1].record.value = 0.65
        heading, _ = summary_table(merged([*self.records("a", 0.6), *other]))
        assert heading[:5] == ["metric", "a", "b", "a:pca", "b:pca"]

    def test_scores_of_other_cells_never_share_a_row(self):
        rows = summary_table(merged([*self.records("a", 0.6), *self.records("b", 0.8, split_hash="t" * 64)]))[1:]
        assert [row[0] for row in rows] == [
            f"eval/b/heldout [split {each * 8}, data dddddddd, cell_type]/m" for each in "st"
        ]
        assert [row[-1] for row in rows] == ["pca", "b"]

    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("scored_conditions", "conditions"),
            ("scored_genes", "genes"),
            ("scored_edges", "edges"),
            ("scored_labels", "labels"),
        ],
    )
    def test_scores_of_other_conditions_genes_edges_or_labels_never_share_a_row(self, name, what):
        ours, theirs = (
            self.records(run, value, params={name: letter * 16})
            for run, value, letter in (("a", 0.6, "e"), ("b", 0.8, "f"))
        )
        rows = summary_table(merged([*ours, *theirs]))[1:]
        assert [row[0] for row in rows] == [
            f"eval/b/heldout [split ssssssss, data dddddddd, cell_type, {what} {letter * 8}]/m" for letter in "ef"
        ]
        assert [row[-1] for row in rows] == ["pca", "b"]
        same = self.records("b", 0.8, params={name: "e" * 16})
        assert len(summary_table(merged([*ours, *same]))) == 2

    def test_a_score_that_is_not_there_stands_with_the_others(self):
        ours = self.records("a", 0.6, params={"scored_genes": "e" * 16})
        skipped = Result("b", replace(FIRST, value=None, params={}, skipped_reason="one batch", interval=None))
        assert len(summary_table(merged([*ours, skipped]))) == 2
