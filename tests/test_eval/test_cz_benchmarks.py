"""The tasks of cz-benchmarks as a benchmark; .ci/full installs the package for these tests."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import scipy.sparse as sp

from scmodelforge.eval.base import get_benchmark
from scmodelforge.eval.benchmarks.cz_benchmarks import CzBenchmarksConfig
from scmodelforge.eval.cz_benchmarks import METRICS
from scmodelforge.eval.records import read_records
from tests.conftest import make_adata
from tests.test_eval.scoring import clustered, run, shuffled, split, unstructured
from tests.test_life_cycle import invoke, train

NAME = "cz_benchmarks"
IS_HERE = find_spec("czbenchmarks") is not None

runs_tasks = pytest.mark.skipif(not IS_HERE, reason="needs the package cz-benchmarks")
# Warnings of cz-benchmarks and of what it imports are not ours.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("real_umap")]


@pytest.mark.skipif(IS_HERE, reason="cz-benchmarks is installed")
def test_without_the_package_the_command_that_installs_it_is_given():
    with pytest.raises(ImportError, match=r"pip install 'scmodelforge\[cz-benchmarks\]'"):
        run(NAME, clustered())


@pytest.mark.parametrize(
    ("tasks", "what"),
    [(["clustering", "clustering"], "listed twice"), (["perturbation"], "Input should be"), ([], "at least 1 item")],
)
def test_tasks_that_cannot_be_run_are_refused(tasks, what):
    with pytest.raises(ValueError, match=what):
        CzBenchmarksConfig(tasks=tasks)


@pytest.mark.slow
@runs_tasks
class TestScores:
    def test_of_perfect_clusters_are_perfect(self):
        found = run(NAME, clustered(spread=1e-3))
        assert set(found) == {metric for metrics in METRICS.values() for metric in metrics}
        assert found["czb_silhouette_score"].value == pytest.approx(1, abs=1e-2)
        for metric in METRICS["label_prediction"]:
            assert found[metric].value == pytest.approx(1), metric

    def test_of_noise_are_at_chance(self):
        found = run(NAME, unstructured())
        assert abs(found["czb_adjusted_rand_index"].value) < 0.05
        assert found["czb_silhouette_score"].value == pytest.approx(0.5, abs=0.03)
        assert found["czb_mean_fold_accuracy_mean"].value == pytest.approx(0.25, abs=0.08)
        assert found["czb_entropy_per_cell"].value > 0.97

    def test_do_not_depend_on_the_order_of_cells(self):
        first, second = (run(NAME, inputs) for inputs in (unstructured(num_cells=120), shuffled(unstructured(120))))
        assert {m: r.value for m, r in first.items()} == {m: r.value for m, r in second.items()}

    def test_do_not_look_at_training_cells(self):
        inputs = clustered()
        other = replace(inputs, train=replace(inputs.train, embeddings=-inputs.train.embeddings))
        assert run(NAME, other)["czb_silhouette_score"].value == run(NAME, inputs)["czb_silhouette_score"].value

    def test_only_of_the_tasks_that_are_asked_for(self):
        assert list(run(NAME, clustered(), tasks=["embedding"])) == ["czb_silhouette_score"]


@pytest.mark.slow
@runs_tasks
class TestWhatIsLeftOut:
    def test_cells_without_label_or_batch_are_counted(self):
        inputs = unstructured(num_cells=240)
        labels, batches = inputs.heldout.labels.copy(), inputs.heldout.batches.copy()
        labels[:7], batches[5:12] = "", ""
        found = run(NAME, replace(inputs, heldout=replace(inputs.heldout, labels=labels, batches=batches)))
        silhouette, entropy = found["czb_silhouette_score"], found["czb_entropy_per_cell"]
        assert (silhouette.n, silhouette.n_skipped) == (113, 7)
        assert silhouette.skipped_reason == "7 cells without a label"
        assert (entropy.n, entropy.n_skipped) == (108, 12)
        assert entropy.skipped_reason == "7 cells without a label; 5 cells without a batch"

    def test_small_labels_are_counted(self):
        inputs = clustered(num_cells=120)
        labels = inputs.heldout.labels.copy()
        labels[:4] = "rare"
        record = run(NAME, replace(inputs, heldout=replace(inputs.heldout, labels=labels)))
        assert (record["czb_mean_fold_f1_lr"].n, record["czb_mean_fold_f1_lr"].n_skipped) == (56, 4)
        assert record["czb_mean_fold_f1_lr"].skipped_reason == "4 cells of labels with fewer than 10 cells"

    @pytest.mark.parametrize(
        ("inputs", "tasks", "reason"),
        [
            (split(np.ones((60, 4)), ["a", "b"] * 30, ["x", "y"] * 30), list(METRICS), "same embedding"),
            (split(np.random.default_rng(0).normal(size=(60, 4)), ["a"] * 60), ["embedding"], "two labels are needed"),
            (split(np.random.default_rng(0).normal(size=(60, 4)), [str(i) for i in range(60)]), ["embedding"], "own"),
            (split(np.random.default_rng(0).normal(size=(60, 4)), ["a", "b"] * 30), ["batch_integration"], "no batch"),
            (split(np.random.default_rng(0).normal(size=(18, 4)), ["a", "b"] * 9), ["label_prediction"], "10 cells"),
        ],
    )
    def test_what_is_not_defined_is_skipped_by_name(self, inputs, tasks, reason):
        found = run(NAME, replace(inputs), tasks=tasks)
        assert set(found) == {metric for task in tasks for metric in METRICS[task]}
        for record in found.values():
            assert record.value is None
            assert reason in record.skipped_reason
            assert record.n_skipped == len(inputs.heldout)


@pytest.mark.slow
@runs_tasks
class TestTheirBaselines:
    def test_are_those_of_the_package(self):
        from czbenchmarks.tasks import EmbeddingTask, EmbeddingTaskInput
        from czbenchmarks.tasks.task import PCABaselineInput

        inputs = clustered(num_cells=160)
        rng = np.random.default_rng(0)
        counts = sp.csr_matrix(rng.poisson(2.0, size=(80, 300)).astype(np.float32))
        inputs = replace(inputs, representation="pca", counts=lambda: counts)
        records = _run_all(inputs, ["embedding"])
        vectors = EmbeddingTask(random_seed=42).compute_baseline(counts, PCABaselineInput(n_pcs=50))
        (expected,) = EmbeddingTask(random_seed=42).run(vectors, EmbeddingTaskInput(input_labels=inputs.heldout.labels))
        assert [record.representation for record in records] == ["pca", "cz_benchmarks"]
        assert records[1].value == pytest.approx(expected.value, abs=1e-6)

    def test_stand_beside_ours_in_an_evaluation(self, tmp_path):
        data = tmp_path / "cells.h5ad"
        make_adata(80, 30).write_h5ad(data)
        run_dir = train(tmp_path, data, eval__benchmarks=[{"name": NAME, "tasks": ["embedding", "clustering"]}])
        out = tmp_path / "scores.jsonl"
        invoke("evaluate", run_dir, "--baselines", "pca", "--out", out)
        model = [record for record in read_records(out) if record.representation == "model"]
        assert [record.metric for record in model] == [*METRICS["embedding"], *METRICS["clustering"]]
        for record in model:
            assert {"pca", "cz_benchmarks"} <= set(record.baselines)


def _run_all(inputs, tasks):
    return get_benchmark(NAME)(CzBenchmarksConfig(tasks=tasks)).run(inputs)
