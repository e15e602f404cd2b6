from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge._errors import DataError
from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.eval.base import Record, get_benchmark
from scmodelforge.eval.callback import EvalCallback
from scmodelforge.eval.harness import evaluate, skip_notes, stratified_subsample, summary_table, winners
from scmodelforge.eval.records import append_records, read_records, read_scores
from scmodelforge.eval.tables import about_intervals, terminal_tables
from tests.test_eval.scoring import clustered


def representations():
    """Return a model that is noise, and PCA that knows the labels: the baseline wins."""
    inputs = clustered()
    rng = np.random.default_rng(0)
    noise = {
        name: replace(getattr(inputs, name), embeddings=rng.normal(size=getattr(inputs, name).embeddings.shape))
        for name in ("train", "heldout")
    }
    return {"model": replace(inputs, **noise), "pca": replace(inputs, representation="pca")}


def embedding_quality():
    benchmark = get_benchmark("embedding_quality")
    return benchmark(benchmark.config_class())


class NeedsGenes:
    config_class = BenchmarkConfig
    needs = frozenset({"gene_embeddings"})
    columns: frozenset[str] = frozenset()

    def run(self, inputs):
        return [inputs.record("genes", "m", 1.0, library="none")]


class TestEvaluate:
    def test_gives_the_records_of_all_and_puts_baselines_beside_the_model(self):
        records = evaluate([embedding_quality()], representations())
        by_name = {(record.representation, record.metric): record for record in records}
        assert len(records) == 6
        model, pca = by_name["model", "nmi_kmeans"], by_name["pca", "nmi_kmeans"]
        assert model.baselines == {"pca": pca.value}
        assert pca.baselines == {}
        assert model.seconds > 0

    def test_refuses_representations_of_different_cells(self):
        inputs = representations()
        fewer = inputs["pca"].heldout.select(np.arange(10))
        with pytest.raises(DataError, match="'pca' and 'model' have different heldout cells"):
            evaluate([], {**inputs, "pca": replace(inputs["pca"], heldout=fewer)})
        labels = inputs["pca"].train.labels[::-1]
        relabelled = replace(inputs["pca"], train=replace(inputs["pca"].train, labels=labels))
        with pytest.raises(DataError, match=r"different train cells \(labels\)"):
            evaluate([], {**inputs, "pca": relabelled})

    def test_needs_a_model(self):
        with pytest.raises(DataError, match="no 'model' among the representations"):
            evaluate([], {"pca": clustered()})

    def test_refuses_a_model_that_lacks_what_a_benchmark_needs(self):
        with pytest.raises(DataError, match="NeedsGenes needs gene_embeddings"):
            evaluate([NeedsGenes()], representations())

    def test_does_not_ask_baselines_for_what_they_cannot_have(self):
        inputs = representations()
        inputs["model"] = replace(inputs["model"], gene_embeddings=np.ones((3, 2)))
        assert [record.representation for record in evaluate([NeedsGenes()], inputs)] == ["model"]


class TestSummary:
    def test_names_the_winner_plainly_even_if_it_is_a_baseline(self):
        records = evaluate([embedding_quality()], representations())
        heading, *rows = summary_table(records)
        assert heading == ["metric", "model", "pca", "best"]
        assert [row[-1] for row in rows] == ["pca"] * 3
        assert rows[0][0] == "eval/embedding_quality/cells/nmi_kmeans"
        assert "*" in rows[0][2]
        assert "*" not in rows[0][1]
        assert "[" in rows[0][1]
        assert winners(records) == {"pca": 3}

    def test_puts_constant_guesses_into_columns_of_their_own(self):
        benchmark = get_benchmark("cell_type_annotation")
        records = evaluate([benchmark(benchmark.config_class())], representations())
        heading, *rows = summary_table(records)
        assert heading == ["metric", "model", "pca", "majority", "best"]
        assert len(rows) == 6
        assert len(summary_table(records, details=True)) == 1 + len({record.key for record in records})

    def test_lower_is_better_where_a_record_says_so(self):
        rows = [
            Record("b", "d", name, "error", value, higher_is_better=False)
            for name, value in [("model", 2.0), ("pca", 1.0)]
        ]
        assert summary_table(rows)[1][-1] == "pca"

    def test_shows_skipped_metrics_and_says_why(self):
        record = Record("b", "d", "model", "m", None, n_skipped=9, skipped_reason="two batches are needed")
        assert summary_table([record])[1] == ["eval/b/d/m", "skipped", "-"]
        assert skip_notes([record]) == ["eval/b/d: m: not scored: two batches are needed"]

    def test_says_once_which_cells_were_left_out(self):
        records = [Record("b", "d", "model", m, 1.0, n=8, n_skipped=2, skipped_reason="no label") for m in "xy"]
        assert skip_notes(records) == ["eval/b/d: 2 metrics: 2 of 10 left out: no label"]

    def test_says_what_was_left_out_without_a_number_where_nothing_that_counts_was(self):
        record = Record("b", "d", "model", "m", 1.0, n=8, skipped_reason="labels without held-out cells: HSC")
        assert skip_notes([record]) == ["eval/b/d: m: left out: labels without held-out cells: HSC"]

    @pytest.mark.parametrize(("num", "best"), [(3, "model"), (8, "additive")])
    def test_a_score_of_fewer_things_is_never_the_best_and_says_of_how_many_it_is(self, num, best):
        records = [
            Record("b", "d", "model", "m", 0.3, [0.2, 0.4], n=8),
            Record("b", "d", "additive", "m", 0.9, [0.8, 1.0], n=num, n_skipped=8 - num),
        ]
        row = summary_table(records)[1]
        assert row[-1] == best
        assert ("(3 of 8)" in row[2]) == (num == 3)
        assert winners(records) == {best: 1}
        (shown,) = terminal_tables(records).tables[0].rows
        assert shown[2] == ("0.900 ±0.100 (3 of 8)" if num == 3 else "0.900* ±0.100")


class TestSubsample:
    @given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6), most=st.integers(1, 100), seed=st.integers(0, 9))
    def test_keeps_shares_of_labels(self, sizes, most, seed):
        labels = np.repeat([f"type{i}" for i in range(len(sizes))], sizes)
        chosen = stratified_subsample(labels, most, seed)
        assert len(chosen) == min(most, len(labels))
        assert (np.diff(chosen) > 0).all()
        if most < len(sizes):
            return
        for label, size in zip(np.unique(labels), sizes, strict=True):
            share = size * len(chosen) / len(labels)
            found = (labels[chosen] == label).sum()
            assert found >= 1
            assert found <= max(np.ceil(share), 1)

    def test_is_seeded(self):
        labels = np.repeat(["a", "b"], 50)
        first, again, other = (stratified_subsample(labels, 20, seed) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


class MetricsLog:
    def __init__(self):
        self.logged = []

    def log(self, step, values):
        self.logged.append((step, values))


def a_run(epoch: int, *, ends_early: bool = False):
    progress = SimpleNamespace(epoch=epoch, step=10 * epoch)
    return SimpleNamespace(progress=progress, metrics=MetricsLog(), ends_early=ends_early)


class TestCallback:
    @pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
    def test_evaluates_every_n_epochs_and_after_the_last(self, tmp_path, every, expected):
        seen = []
        callback = EvalCallback(
            lambda run: seen.append(run.progress.epoch) or [],
            every_n_epochs=every,
            max_epochs=5,
            results=tmp_path / "results.jsonl",
        )
        for epoch in range(1, 6):
            callback.on_epoch_end(a_run(epoch))
        assert seen == expected
        assert not (tmp_path / "results.jsonl").exists()

    def test_evaluates_the_last_epoch_of_a_run_that_ends_early(self, tmp_path):
        seen = []
        callback = EvalCallback(
            lambda run: seen.append(run.progress.epoch) or [], every_n_epochs=9, max_epochs=9, results=tmp_path / "r"
        )
        for epoch in (1, 2):
            callback.on_epoch_end(a_run(epoch, ends_early=epoch == 2))
        assert seen == [2]

    def test_writes_all_records_and_logs_those_of_the_model(self, tmp_path):
        records = evaluate([embedding_quality()], representations())
        callback = EvalCallback(lambda run: records, every_n_epochs=1, max_epochs=5, results=tmp_path / "results.jsonl")
        callback.on_epoch_end(run := a_run(3))
        [(step, logged)] = run.metrics.logged
        assert step == 30
        assert logged == {record.key: record.value for record in records if record.representation == "model"}
        assert (run.scores, run.scores_step) == (logged, 30)
        stored = read_records(tmp_path / "results.jsonl")
        assert stored == records
        assert {(record.step, record.epoch) for record in stored} == {(30, 3)}

    def test_forgets_what_came_after_the_step_a_run_goes_on_from(self, tmp_path):
        path = tmp_path / "results.jsonl"
        callback = EvalCallback(
            lambda run: [Record("b", "d", "model", "m", 1.0)], every_n_epochs=1, max_epochs=5, results=path
        )
        for epoch in (1, 2, 3):
            callback.on_epoch_end(a_run(epoch))
        callback.truncate(20)
        assert [record.epoch for record in read_records(path)] == [1, 2]

    @pytest.mark.parametrize(("every", "expected"), [(2, [2, 4, 6, 8]), (3, [3, 6, 8]), (4, [4, 8]), (9, [8])])
    def test_goes_by_steps_instead_and_evaluates_the_last_one(self, tmp_path, every, expected):
        seen = []
        callback = EvalCallback(
            lambda run: seen.append(run.progress.step) or [],
            every_n_epochs=None,
            every_n_steps=every,
            max_epochs=2,
            results=tmp_path / "results.jsonl",
        )
        for step in range(1, 9):  # epochs of 4 steps
            run = SimpleNamespace(progress=SimpleNamespace(step=step, epoch=(step - 1) // 4), steps_per_epoch=4)
            callback.on_step_end(run)
            if step % 4 == 0:
                run.progress.epoch, run.ends_early = step // 4, False
                callback.on_epoch_end(run)
        assert seen == expected

    def test_a_resumed_run_has_the_scores_it_had(self, tmp_path):
        records = [Record("b", "d", "model", "m", 0.5)]
        first, second = (
            EvalCallback(lambda run: records, every_n_epochs=1, max_epochs=5, results=tmp_path / "r") for _ in "ab"
        )
        first.on_epoch_end(a_run(3))
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        run = a_run(3)
        second.on_fit_start(run)
        assert (run.scores, run.scores_step) == ({"eval/b/d/m": 0.5}, 30)


class TestScoresOfSteps:
    def test_are_those_of_the_model_and_leave_out_a_line_being_written(self, tmp_path):
        path = tmp_path / "results.jsonl"
        records = [
            Record("b", "d", "model", "m", 0.5, step=10),
            Record("b", "d", "pca", "m", 0.9, step=10),
            Record("b", "other", "model", "m", 0.8, step=10),
            Record("b", "d", "model", "m", None, step=20),
            Record("b", "d", "model", "m", 0.4, step=30, higher_is_better=False),
        ]
        append_records(path, records)
        with path.open("a") as file:
            file.write('{"metric": "m", "val')
        assert read_scores(path, "eval/b/d/m") == {10: (0.5, True), 30: (0.4, False)}
        assert read_scores(tmp_path / "none.jsonl", "eval/b/d/m") == {}


class TestTable:
    def test_has_half_of_the_intervals_over_cells_and_over_groups(self):
        both = Record("b", "d", "model", "m", 0.6, [0.5, 0.7], group_interval=[0.3, 0.8], group_key="donor")
        groups = Record("b", "d", "pca", "m", 0.5, group_interval=[-0.1, 0.3], group_key="donor")
        shown = terminal_tables([both, groups])
        assert shown.tables[0].rows == [["m", "0.600* ±0.100/0.250", "0.500* ±-/0.200"]]
        assert any("whole groups of cells are, all of one 'donor'" in line for line in shown.legend)
        assert about_intervals([both]).endswith("bootstrap interval")
        alone = terminal_tables([Record("b", "d", "model", "m", 0.6, [0.5, 0.7])])
        assert not any("groups" in line for line in alone.legend)
