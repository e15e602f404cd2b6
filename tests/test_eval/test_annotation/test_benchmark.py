"""Annotation of cells whose labels, and what can be known of them, are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.eval.annotation import LabelPredictions
from scmodelforge.eval.base import BenchmarkInputs, get_benchmark
from scmodelforge.eval.benchmarks.cell_type_annotation import CellTypeAnnotationConfig
from scmodelforge.eval.harness import evaluate
from tests.test_eval.scoring import clustered, run, shuffled, split, unstructured, values

PROBES = ["linear_probe", "knn15", "knn15_cosine"]
OF_TABLES = ["accuracy", "macro_f1", "weighted_f1", "balanced_accuracy", "kappa"]
OF_CONFIDENCE = ["auroc_macro_ovr", "ece15", "brier"]
OPEN = ["unknown_auroc", "open_accuracy", "unseen_rejected", "seen_rejected"]
SCORES = [*OF_TABLES, *OF_CONFIDENCE, *OPEN]


def annotate(inputs: BenchmarkInputs, **settings):
    return run("cell_type_annotation", inputs, **settings)


def with_heldout(inputs: BenchmarkInputs, **columns) -> BenchmarkInputs:
    return replace(inputs, heldout=replace(inputs.heldout, **columns))


def with_new_label(inputs: BenchmarkInputs) -> BenchmarkInputs:
    """Give the cells of one type, of which no training cell is, a label of their own."""
    train = inputs.train.select(inputs.train.labels != "type0")
    labels = np.where(inputs.heldout.labels == "type0", "new", inputs.heldout.labels)
    return with_heldout(replace(inputs, train=train), labels=labels)


class TestCellTypeAnnotation:
    def test_gives_every_score_of_every_probe(self):
        found = run("cell_type_annotation", clustered())
        assert set(found) == {f"{score}_{probe}" for score in SCORES for probe in PROBES}

    def test_perfect_clusters_are_read_off_without_error(self):
        found = run("cell_type_annotation", clustered())
        for metric in (f"{score}_{probe}" for score in [*OF_TABLES, "auroc_macro_ovr"] for probe in PROBES):
            assert found[metric].value == 1
            assert found[metric].interval == [1, 1]

    def test_labels_as_embeddings_are_read_off_without_error(self):
        codes = np.random.default_rng(0).integers(4, size=200)
        found = annotate(split(np.eye(4)[codes], [f"type{code}" for code in codes]))
        assert {found[f"{score}_{probe}"].value for score in OF_TABLES for probe in PROBES} == {1}

    @pytest.mark.parametrize("metric", ["accuracy_knn15", "accuracy_knn15_by_batch"])
    def test_as_many_other_labels_are_told_apart(self, metric):
        inputs = clustered()
        renamed = replace(
            inputs,
            **{
                side: replace(cells, labels=np.where(cells.labels == "type0", "other", cells.labels))
                for side, cells in (("train", inputs.train), ("heldout", inputs.heldout))
            },
        )
        first, second, again = (
            run("cell_type_annotation", each, probes=["knn"], folds="by_group")[metric].params
            for each in (inputs, renamed, shuffled(inputs))
        )
        assert first["num_labels"] == second["num_labels"]
        assert first["scored_labels"] == again["scored_labels"] != second["scored_labels"]

    def test_permuted_labels_are_read_off_at_chance(self):
        inputs = clustered(num_cells=600)
        labels = np.random.default_rng(0).permutation(inputs.heldout.labels)
        found = annotate(with_heldout(inputs, labels=labels))
        for probe in PROBES:
            assert abs(found[f"kappa_{probe}"].value) < 0.15
            assert found[f"auroc_macro_ovr_{probe}"].value == pytest.approx(0.5, abs=0.1)

    def test_noise_is_read_off_at_chance(self):
        found = run("cell_type_annotation", unstructured())
        for probe in PROBES:
            assert found[f"accuracy_{probe}"].value == pytest.approx(0.25, abs=0.08)
            assert abs(found[f"kappa_{probe}"].value) < 0.1

    def test_fits_on_training_cells_only(self):
        inputs = clustered()
        renamed = np.array([f"type{(int(label[-1]) + 1) % 3}" for label in inputs.train.labels])
        found = run("cell_type_annotation", replace(inputs, train=replace(inputs.train, labels=renamed)))
        assert found["accuracy_linear_probe"].value == 0
        assert found["accuracy_knn15"].value == 0

    def test_stands_beside_the_majority_guess(self):
        inputs = clustered(num_cells=200)
        labels = np.where(np.arange(100) < 70, "often", "rarely")
        parts = {name: replace(getattr(inputs, name), labels=labels) for name in ("train", "heldout")}
        found = run("cell_type_annotation", replace(inputs, **parts))
        assert found["accuracy_linear_probe"].baselines == {"majority": pytest.approx(0.7)}
        assert found["balanced_accuracy_knn15"].baselines == {"majority": pytest.approx(0.5)}
        assert found["kappa_knn15"].baselines == {"majority": pytest.approx(0)}

    def test_leaves_out_small_labels_and_counts_their_held_out_cells(self):
        inputs = clustered()
        labels = inputs.heldout.labels.copy()
        labels[:6] = "rare"
        rare = replace(inputs, heldout=replace(inputs.heldout, labels=labels))
        record = run("cell_type_annotation", rare)["accuracy_knn15"]
        assert (record.n, record.n_skipped, record.value) == (54, 6, 1)
        assert record.skipped_reason == "6 cells of labels with fewer than 10 cells in the data: rare (6)"
        assert run("cell_type_annotation", rare, min_class_size=6)["accuracy_knn15"].n == 60

    def test_small_labels_are_those_of_all_cells_not_of_a_sample(self):
        inputs = clustered(num_cells=24)
        sample = replace(inputs, label_sizes={"type0": 9, "type1": 10, "type2": 900})
        found = annotate(sample, probes=["linear_probe"], folds="by_group")
        for metric, number in (("accuracy_linear_probe", 4), ("accuracy_linear_probe_by_batch", 8)):
            assert found[metric].params["labels_left_out"] == ["type0"]
            assert (found[metric].n, found[metric].n_skipped) == (2 * number, number)
            expected = f"{number} cells of labels with fewer than 10 cells in the data: type0 (9)"
            assert found[metric].skipped_reason == expected

    def test_counts_labels_that_no_training_cell_has_as_errors(self):
        inputs = clustered()
        labels = np.where(inputs.heldout.labels == "type0", "new", inputs.heldout.labels)
        new = replace(inputs, heldout=replace(inputs.heldout, labels=labels))
        record = run("cell_type_annotation", new)["accuracy_linear_probe"]
        assert record.value == pytest.approx(2 / 3)
        assert record.params["unseen_labels"] == ["new"]
        assert record.params["num_unseen"] == 20

    def test_says_when_the_probe_did_not_converge(self):
        found = run("cell_type_annotation", unstructured(), max_iter=1, probes=["linear_probe"])
        assert found["accuracy_linear_probe"].params["converged"] is False
        assert run("cell_type_annotation", clustered())["accuracy_linear_probe"].params["converged"] is True

    def test_skips_neighbours_by_name_if_there_are_too_few_cells(self):
        inputs = clustered(num_cells=24)
        found = run("cell_type_annotation", inputs, min_class_size=1)
        assert found["accuracy_knn15"].value is None
        assert "12 training cells are fewer than the 15 neighbours" in found["accuracy_knn15"].skipped_reason
        assert found["accuracy_linear_probe"].value == 1

    def test_neighbours_by_angle_ignore_the_length_of_vectors(self):
        inputs = clustered()
        lengths = np.random.default_rng(0).uniform(0.1, 10, len(inputs.heldout))[:, None]
        stretched = replace(inputs, heldout=replace(inputs.heldout, embeddings=inputs.heldout.embeddings * lengths))
        assert run("cell_type_annotation", stretched)["accuracy_knn15_cosine"].value == 1

    def test_a_linear_probe_does_not_depend_on_the_scale_of_columns(self):
        inputs = clustered(spread=1.0)
        scale = np.array([1e-4, 1e-4, 1e-4, 1e3, 1e3, 1e3, 1e3, 1e3])  # the labels are in the first three
        parts = {
            name: replace(getattr(inputs, name), embeddings=getattr(inputs, name).embeddings * scale)
            for name in ("train", "heldout")
        }
        scaled = run("cell_type_annotation", replace(inputs, **parts))
        assert scaled["accuracy_linear_probe"].value > 0.95
        assert scaled["accuracy_knn15"].value < 0.7

    def test_refuses_held_out_cells_that_are_training_cells(self):
        inputs = clustered()
        both = replace(inputs.heldout, positions=np.append(inputs.heldout.positions[:-1], inputs.train.positions[0]))
        with pytest.raises(DataError, match="1 held-out cells are training cells too"):
            replace(inputs, heldout=both)


class TestTables:
    def test_hold_counts_and_scores_of_every_label(self):
        from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

        inputs = clustered(spread=2.5)
        record = annotate(inputs, probes=["knn"])["accuracy_knn15"]
        table = np.array(record.tables["confusion"])
        assert record.tables["labels"] == ["type0", "type1", "type2"]
        assert np.trace(table) / table.sum() == record.value
        truth = np.repeat(np.repeat(np.arange(3), 3), table.ravel())
        given = np.repeat(np.tile(np.arange(3), 3), table.ravel())
        assert confusion_matrix(truth, given).tolist() == table.tolist()
        expected = precision_recall_fscore_support(truth, given)
        for name, column in zip(("precision", "recall", "f1", "support"), expected, strict=True):
            assert record.tables["per_class"][name] == pytest.approx(column.tolist())

    def test_say_what_is_not_defined(self):
        tables = annotate(with_new_label(clustered()), probes=["knn"])["accuracy_knn15"].tables
        row = tables["labels"].index("new")
        per_class = {name: values[row] for name, values in tables["per_class"].items()}
        assert per_class == {"precision": None, "recall": 0, "f1": 0, "support": 20}

    def test_hold_the_accuracy_of_every_group(self):
        inputs = clustered(spread=2.5)
        record = annotate(inputs, probes=["knn"])["accuracy_knn15"]
        groups = record.tables["groups"]
        assert groups["names"] == ["b0", "b1"]
        assert np.average(groups["accuracy"], weights=groups["n"]) == pytest.approx(record.value)


class TestConfidence:
    def test_chance_has_no_error_of_calibration_worth_the_name(self):
        """The linear probe of noise is as unsure as it should be, the one that knows labels is sure and right."""
        found = annotate(unstructured(num_cells=2000), probes=["linear_probe"])
        assert found["ece15_linear_probe"].value < 0.08
        assert found["brier_linear_probe"].value == pytest.approx(0.75, abs=0.03)  # four labels, each as likely
        assert found["auroc_macro_ovr_linear_probe"].value == pytest.approx(0.5, abs=0.05)
        sure = annotate(clustered(spread=1e-3), probes=["linear_probe"])
        assert sure["ece15_linear_probe"].value < 0.1
        assert sure["brier_linear_probe"].value < 0.02

    def test_bins_are_named_and_hold_all_cells(self):
        inputs = unstructured()
        record = annotate(inputs, probes=["knn"])["ece15_knn15"]
        bins = record.tables["calibration"]
        assert len(bins["upper_bound"]) == 15
        assert sum(bins["n"]) == record.n
        gaps = [
            n * abs(accuracy - confidence)
            for n, accuracy, confidence in zip(bins["n"], bins["accuracy"], bins["confidence"], strict=True)
            if n
        ]
        assert record.value == pytest.approx(sum(gaps) / record.n)

    def test_says_which_scores_are_better_low(self):
        found = annotate(with_new_label(clustered()))
        low = {metric for metric, record in found.items() if not record.higher_is_better}
        assert low == {f"{score}_{probe}" for score in ("ece15", "brier", "seen_rejected") for probe in PROBES}


class TestUnknownLabels:
    def test_cells_between_the_known_ones_are_told_and_rejected(self):
        """New cells lie where no training cell does, as far from both labels."""
        found = annotate(with_new_label(clustered(num_cells=240, spread=0.5)), probes=["linear_probe"])
        assert found["unknown_auroc_linear_probe"].value > 0.99
        assert found["unseen_rejected_linear_probe"].value > 0.9
        assert found["open_accuracy_linear_probe"].value > 0.85
        assert found["seen_rejected_linear_probe"].value < 0.2
        params = found["open_accuracy_linear_probe"].params
        assert params["threshold_quantile"] == 0.05
        wanted = (found["unseen_rejected_linear_probe"].value + 2 * found["seen_rejected_linear_probe"].value) / 3
        assert params["share_rejected"] == pytest.approx(wanted)

    def test_cells_no_different_from_the_known_ones_are_told_at_chance(self):
        inputs = unstructured(num_cells=1000)
        found = annotate(with_new_label(inputs), probes=["linear_probe"])
        assert found["unknown_auroc_linear_probe"].value == pytest.approx(0.5, abs=0.08)
        assert found["unseen_rejected_linear_probe"].value < 0.15

    def test_are_skipped_by_name_where_there_are_none(self):
        found = annotate(clustered())
        for metric in (f"{score}_{probe}" for score in OPEN for probe in PROBES):
            assert found[metric].value is None
            assert "no held-out cell has a label that no training cell has" in found[metric].skipped_reason
            assert found[metric].n_skipped == 60

    def test_threshold_is_found_on_cells_of_other_groups(self):
        """Each batch has columns of its own, so that a probe is unsure of a batch it has not seen."""
        inputs = with_new_label(clustered(num_cells=240))
        is_first = (inputs.train.batches == "b0")[:, None]
        points = inputs.train.embeddings[:, :4]
        train = replace(inputs.train, embeddings=np.hstack([points * is_first, points * ~is_first]))
        apart = replace(inputs, train=train)
        far, near = (
            annotate(each, probes=["linear_probe"])["open_accuracy_linear_probe"].params["threshold"]
            for each in (apart, with_batches(apart, None))
        )
        assert far < 0.6
        assert near > 0.8


def with_batches(inputs: BenchmarkInputs, batches) -> BenchmarkInputs:
    return replace(
        inputs, train=replace(inputs.train, batches=batches), heldout=replace(inputs.heldout, batches=batches)
    )


class TestIntervalsOverGroups:
    def inputs(self, num_groups: int) -> BenchmarkInputs:
        """Cells of the last group all have a wrong label; the others have none."""
        inputs = clustered(num_cells=240)
        groups = np.array([f"g{i % num_groups}" for i in range(120)])
        wrong = np.array([f"type{(int(label[-1]) + 1) % 3}" for label in inputs.heldout.labels])
        is_last = groups == f"g{num_groups - 1}"
        labels = np.where(is_last, wrong, inputs.heldout.labels)
        return with_heldout(replace(inputs, group_key="donor"), labels=labels, groups=groups)

    def test_draw_whole_groups(self):
        record = annotate(self.inputs(5))["accuracy_linear_probe"]
        assert record.value == pytest.approx(0.8)
        assert record.group_interval[1] == 1
        assert record.group_interval[0] <= 0.4  # two of five draws in a resample are of the group that is wrong
        assert record.interval[0] > 0.7
        assert (record.group_key, record.params["num_groups"]) == ("donor", 5)

    @pytest.mark.parametrize(("num_groups", "has_one"), [(2, False), (3, True)])
    def test_need_three_groups(self, num_groups, has_one):
        record = annotate(self.inputs(num_groups))["accuracy_linear_probe"]
        assert (record.group_interval is not None, record.group_key is not None) == (has_one, has_one)

    def test_are_over_batches_without_groups(self):
        inputs = clustered(num_cells=240)
        three = with_heldout(inputs, batches=[f"b{i % 3}" for i in range(120)])
        record = annotate(three)["macro_f1_knn15"]
        assert (record.group_interval, record.group_key) == ([1, 1], "batch")
        assert annotate(with_batches(inputs, None))["macro_f1_knn15"].group_interval is None

    def test_leave_cells_without_a_group_out_and_count_them(self):
        inputs = self.inputs(5)
        groups = np.where(inputs.heldout.groups == "g4", "", inputs.heldout.groups)  # those with wrong labels
        record = annotate(replace(inputs, heldout=replace(inputs.heldout, groups=groups)))["accuracy_linear_probe"]
        assert record.value == pytest.approx(0.8)
        assert record.group_interval == [1, 1]
        assert (record.params["num_groups"], record.params["num_without_group"]) == (4, 24)
        assert record.tables["groups"]["names"] == ["g0", "g1", "g2", "g3"]
        few = np.where(groups == "g3", "", np.where(groups == "g2", "g1", groups))
        record = annotate(replace(inputs, heldout=replace(inputs.heldout, groups=few)))["accuracy_linear_probe"]
        assert record.group_interval is None  # two groups and those without one are not three

    def test_say_how_many_groups_have_cells_on_both_sides(self):
        inputs = self.inputs(5)
        train = replace(inputs.train, groups=np.array([f"g{i % 2}" for i in range(120)]))
        record = annotate(replace(inputs, train=train))["accuracy_knn15"]
        assert record.params["num_groups_on_both_sides"] == 2


class TestGroupsHeldOutInTurn:
    def inputs(self) -> BenchmarkInputs:
        """Return cells of six groups, each at a place of its own, where labels are dealt out differently."""
        rng = np.random.default_rng(0)
        group, place = np.arange(720) // 2 % 6, rng.integers(3, size=720)
        points = 10 * np.eye(18)[group * 3 + place] + 0.1 * rng.normal(size=(720, 18))
        inputs = split(points, [f"type{each}" for each in (place + group) % 3], [f"b{each}" for each in group])
        return inputs

    def test_a_probe_never_sees_the_group_it_is_scored_on(self):
        """Within a group the place says the label, so a single cell of it would do; other groups say nothing."""
        found = annotate(self.inputs(), folds="by_group")
        for probe in PROBES:
            assert found[f"accuracy_{probe}"].value == 1  # the run's own split has all groups on both sides
            assert found[f"accuracy_{probe}_by_batch"].value < 0.6

    def test_scores_all_cells_under_names_of_their_own(self):
        found = annotate(clustered(), folds="by_group")
        extra = set(found) - set(annotate(clustered()))
        assert extra == {f"{score}_{probe}_by_batch" for score in OF_TABLES for probe in PROBES}
        record = found["accuracy_linear_probe_by_batch"]
        assert (record.value, record.n, record.n_skipped) == (1, 120, 0)
        assert record.params["num_folds"] == 2
        assert record.params["held_out_from_model"] is False

    def test_goes_by_groups_before_batches(self):
        inputs = clustered()
        parts = {
            name: replace(getattr(inputs, name), groups=[f"d{i % 4}" for i in range(60)])
            for name in ("train", "heldout")
        }
        found = annotate(replace(inputs, group_key="donor", **parts), folds="by_group")
        record = found["accuracy_knn15_by_group"]
        assert (record.value, record.group_key, record.params["num_groups"]) == (1, "donor", 4)

    def test_does_not_depend_on_which_part_a_cell_is_of_nor_on_its_place(self):
        inputs = self.inputs()
        swapped = replace(inputs, train=inputs.heldout, heldout=inputs.train)
        first, second = (annotate(each, folds="by_group") for each in (inputs, shuffled(swapped)))
        for metric in (f"{score}_{probe}_by_batch" for score in OF_TABLES for probe in PROBES):
            assert (first[metric].value, first[metric].interval) == (second[metric].value, second[metric].interval)

    def test_is_skipped_by_name_for_one_group(self):
        inputs = clustered()
        found = annotate(with_batches(inputs, ["b"] * 60), folds="by_group")
        assert found["kappa_knn15_by_batch"].skipped_reason == "the cells are of 1 batch; two are needed"

    def test_leaves_out_and_counts_cells_without_a_group(self):
        inputs = clustered()
        batches = ["", *inputs.heldout.batches[1:]]
        record = annotate(with_heldout(inputs, batches=batches), folds="by_group")["accuracy_knn15_by_batch"]
        assert (record.n, record.n_skipped) == (119, 1)
        assert record.skipped_reason == "1 cells without a batch"


class TestHead:
    def predictions(self, inputs: BenchmarkInputs, names=("type2", "type0", "type1")) -> LabelPredictions:
        """Return predictions that are right of all cells but every tenth."""
        names = np.array(names)
        labels = inputs.heldout.labels.copy()
        labels[::10] = np.where(labels[::10] == "type0", "type1", "type0")
        return LabelPredictions(names, 0.1 / len(names) + 0.9 * (labels[:, None] == names))

    def test_that_knows_none_of_the_labels_is_skipped_by_name(self):
        inputs = clustered()
        known = self.predictions(inputs)
        others = LabelPredictions(["B cell", "T cell", "NK"], known.probabilities)
        found = run("cell_type_annotation", replace(inputs, predictions=others))
        assert found["accuracy_head"].value is None
        assert "the head gives none of these labels" in found["accuracy_head"].skipped_reason

    def test_is_scored_as_one_more_probe(self):
        inputs = clustered()
        found = annotate(replace(inputs, predictions=self.predictions(inputs)))
        assert {metric for metric in found if metric.endswith("_head")} == {f"{score}_head" for score in SCORES}
        assert found["accuracy_head"].value == pytest.approx(0.9)
        assert found["ece15_head"].value == pytest.approx(abs(0.9 - (0.9 + 0.1 / 3)))

    def test_linear_probes_of_baselines_stand_beside_it(self):
        inputs = clustered()
        others = {"model": replace(inputs, predictions=self.predictions(inputs))}
        others |= {"pca": replace(inputs, representation="pca"), "random": replace(inputs, representation="random")}
        found = {
            (each.metric, each.representation): each
            for each in evaluate([get_benchmark("cell_type_annotation")(CellTypeAnnotationConfig())], others)
        }
        (own, probe) = (found[f"accuracy_{name}", "pca"] for name in ("head", "linear_probe"))
        assert (own.value, own.interval, own.n) == (probe.value, probe.interval, probe.n)
        assert own.params["probe"] == "linear_probe"
        head = found["accuracy_head", "model"]
        assert head.baselines["pca"] == own.value > head.value
        assert ("accuracy_head", "random") not in found
        alone = evaluate(
            [get_benchmark("cell_type_annotation")(CellTypeAnnotationConfig())],
            {"model": replace(inputs, representation="model"), "pca": others["pca"]},
        )
        assert not [each for each in alone if each.metric.endswith("_head")]

    def test_is_left_out_where_there_is_none(self):
        assert not [metric for metric in annotate(clustered()) if metric.endswith("head")]

    def test_rows_follow_their_cells(self):
        inputs = replace(clustered(), predictions=None)
        predictions = self.predictions(inputs)
        order = np.random.default_rng(0).permutation(len(inputs.heldout))
        listed = replace(inputs, heldout=inputs.heldout.select(order), predictions=predictions.select(order))
        assert values(annotate(listed)) == values(annotate(replace(inputs, predictions=predictions)))
        wrong = replace(inputs, heldout=inputs.heldout.select(order), predictions=predictions)
        assert annotate(wrong)["accuracy_head"].value < 0.6

    def test_labels_it_does_not_know_are_unseen(self):
        inputs = clustered()
        labels = np.where(inputs.heldout.labels == "type0", "new", inputs.heldout.labels)
        predictions = self.predictions(inputs, names=("type0", "type1", "type2"))
        record = annotate(with_heldout(replace(inputs, predictions=predictions), labels=labels))["accuracy_head"]
        assert record.params["unseen_labels"] == ["new"]

    def test_has_no_threshold_found_on_cells_it_was_trained_on(self):
        inputs = with_new_label(clustered())
        rows = np.full((len(inputs.heldout), 2), 0.5)
        rows[inputs.heldout.labels != "new"] = [0.9, 0.1]
        predictions = LabelPredictions(["type1", "type2"], rows)
        found = annotate(replace(inputs, predictions=predictions))
        assert found["unknown_auroc_head"].value == 1
        assert "trained on these cells' labels" in found["open_accuracy_head"].skipped_reason

    def test_is_scored_on_an_embedding_that_says_nothing(self):
        inputs = clustered()
        flat = (
            replace(inputs.train, embeddings=np.zeros((60, 8))),
            replace(inputs.heldout, embeddings=np.zeros((60, 8))),
        )
        found = annotate(replace(inputs, train=flat[0], heldout=flat[1], predictions=self.predictions(inputs)))
        assert found["accuracy_head"].value == pytest.approx(0.9)
        assert found["accuracy_knn15"].value is None

    def test_needs_one_row_for_each_held_out_cell(self):
        inputs = clustered()
        fewer = self.predictions(inputs).select(np.arange(10))
        with pytest.raises(DataError, match="10 rows of predictions for 60 held-out cells"):
            annotate(replace(inputs, predictions=fewer))

    @pytest.mark.parametrize(
        ("names", "rows", "message"),
        [
            (["a", "b"], [[0.5, 0.4]], "1 of 1 cells are no probabilities"),
            (["a", "b"], [[np.nan, 1.0]], "are no probabilities"),
            (["a", "b"], [[-0.5, 1.5]], "are no probabilities"),
            (["a", "a"], [[0.5, 0.5]], "listed twice or empty"),
            (["a", ""], [[0.5, 0.5]], "listed twice or empty"),
            (["a"], [[0.5, 0.5]], "give one column a label"),
        ],
    )
    def test_refuses_what_are_no_probabilities(self, names, rows, message):
        with pytest.raises(DataError, match=message):
            LabelPredictions(names, rows)
