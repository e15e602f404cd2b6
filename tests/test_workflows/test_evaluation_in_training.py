"""Evaluation inside training: its clock, the cells it is of, the checkpoint it chooses, and going on after a stop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.config.load import load_config
from scmodelforge.eval.records import read_records
from scmodelforge.hub.bundle import build_model
from scmodelforge.workflows import read_cells
from scmodelforge.workflows.evaluation_sets import run_evaluator
from scmodelforge.workflows.prepare import prepare_data
from tests.conftest import make_adata
from tests.test_life_cycle import interrupt

KEY = "eval/embedding_quality/heldout/silhouette_label"
SETTINGS = """
data:
  paths: [{data}]
  gene_vocab: from_data
  label_column: cell_type
  batch_column: batch
  split: {{by: donor_id, validation_fraction: 0.3}}
tokenizer: {{strategy: rank_value, max_genes: 16}}
model: {{architecture: transformer_encoder, hidden_dim: 16, num_layers: 1, num_heads: 2, max_seq_len: 16}}
training: {{batch_size: 8, max_epochs: 2, steps_per_epoch: 4, log_every_n_steps: 1, precision: 32-true, ema: {ema}}}
eval: {{benchmarks: [embedding_quality], every_n_steps: 3, max_cells: 12, baselines: [pca, hvg]}}
output: {{run_dir: {run}, tensorboard: false, best_metric: {metric}}}
"""


def configured(folder: Path, data: Path, *, name: str = "run", metric: str = KEY, ema: str = "null") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(SETTINGS.format(data=data, run=folder / name, metric=metric, ema=ema))
    return path


def invoke(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def scores(run: Path, file: str = "results.jsonl") -> dict[int, float]:
    found = [r for r in read_records(run / file) if r.key == KEY and r.representation == "model"]
    return {record.step: record.value for record in found}


def without_seconds(run: Path) -> list[dict]:
    return [{**record.to_dict(), "seconds": 0} for record in read_records(run / "results.jsonl")]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    make_adata(90, 40).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, data) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    result = invoke("train", configured(folder, data))
    assert result.exit_code == 0, result.output
    return folder / "run"


class TestRun:
    def test_is_evaluated_every_n_steps_and_after_the_last(self, run):
        assert list(scores(run)) == [3, 6, 8]
        logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert {line["step"]: line[KEY] for line in logged if KEY in line} == scores(run)

    def test_exports_the_checkpoint_with_the_best_score(self, run):
        found = scores(run)
        best = max(found, key=found.get)
        assert (run / "checkpoints" / "best").read_text() == f"step_{best:08d}\n"
        fingerprint = json.loads((run / "model" / "fingerprint.json").read_text())
        assert fingerprint["step"] == best
        assert scores(run, "exported_results.jsonl") == {best: pytest.approx(found[best], abs=1e-6)}

    def test_scores_validation_cells_only_and_says_how_many_of_them(self, run):
        records = read_records(run / "results.jsonl")
        num_held_out = json.loads((run / "run.json").read_text())["num_validation"]
        assert num_held_out > 12
        assert {(record.n + record.n_skipped, record.subsample) for record in records} == {(12, num_held_out)}
        assert {record.params["subsample_seed"] for record in records} == {0}

    def test_stands_beside_the_baselines_that_were_asked_for(self, run):
        records = read_records(run / "results.jsonl")
        assert {record.representation for record in records} == {"model", "pca", "hvg"}
        assert all(set(r.baselines) == {"pca", "hvg"} for r in records if r.representation == "model")

    @pytest.mark.parametrize("after", [4, pytest.param(5, marks=pytest.mark.slow), 6])
    def test_that_was_interrupted_equals_one_that_was_not(self, run, data, tmp_path, after):
        config = configured(tmp_path, data)
        interrupt("train", config, after=after)
        kept = json.loads((tmp_path / "run" / "checkpoints" / f"step_{after:08d}" / "state.json").read_text())
        assert kept["callbacks"]["EvalCallback"]["step"] == (3 if after < 6 else 6)
        result = invoke("train", "--resume", tmp_path / "run")
        assert result.exit_code == 0, result.output
        assert without_seconds(tmp_path / "run") == without_seconds(run)
        for file in ("checkpoints/best", "model/model.safetensors"):
            assert (tmp_path / "run" / file).read_bytes() == (run / file).read_bytes()

    def test_evaluates_averaged_weights_between_epochs_too(self, data, tmp_path):
        """What is scored at a step is what its checkpoint exports: the averages."""
        metric = "eval/embedding_quality/heldout/nmi_kmeans"
        config = configured(tmp_path, data, metric=metric, ema="{decay: 0.5}")
        assert invoke("train", config, "--set", "output.save_top_k=9").exit_code == 0
        (found,) = scores(tmp_path / "run", "exported_results.jsonl").items()
        assert scores(tmp_path / "run")[found[0]] == pytest.approx(found[1], abs=1e-6)

    @pytest.mark.parametrize(
        ("metric", "words"),
        [
            ("eval/embedding_quality/heldout/silhouete_label", "Did you mean 'silhouette_label'?"),
            ("eval/embedding_quality/heldout/purity", "It gives: nmi_kmeans, ari_kmeans, silhouette_label"),
        ],
    )
    def test_by_a_metric_that_will_not_be_there_is_refused_before_its_first_step(self, data, tmp_path, metric, words):
        result = invoke("train", configured(tmp_path, data, metric=metric))
        assert result.exit_code == 2
        assert words in result.output
        assert not (tmp_path / "run").exists()

    def test_by_a_metric_without_a_value_here_is_refused(self, tmp_path):
        adata = make_adata(90, 40)
        adata.obs["cell_type"] = "one"
        adata.write_h5ad(tmp_path / "one.h5ad")
        result = invoke("train", configured(tmp_path, tmp_path / "one.h5ad"))
        assert result.exit_code == 2
        assert "which has no value here: all held-out cells have the label 'one'" in result.output


class TestCells:
    def evaluator(self, path: Path, folder: Path):
        config = load_config(configured(folder, path))
        data = prepare_data(config)
        return run_evaluator(config, data, untrained=lambda: None), data

    def test_have_the_groups_that_were_held_out_whole(self, data, tmp_path):
        evaluator, _ = self.evaluator(data, tmp_path)
        (cells,) = evaluator._sets
        inputs = cells.inputs(np.zeros((len(cells.positions), 2)), "model")
        assert inputs.group_key == "donor_id"
        assert set(inputs.heldout.groups).isdisjoint(inputs.train.groups)

    def test_have_their_batches_for_groups_where_single_cells_were_held_out(self, data, tmp_path):
        config = load_config(configured(tmp_path, data), ["data.split.by=cells"])
        (cells,) = run_evaluator(config, prepare_data(config), untrained=lambda: None)._sets
        assert cells.group_key == "batch"
        np.testing.assert_array_equal(cells.groups, cells.batches)

    def test_held_out_ones_change_nothing_of_a_fitted_baseline(self, data, tmp_path):
        """The same cells, but for the counts of those that are held out."""
        first, prepared = self.evaluator(data, tmp_path)
        adata = make_adata(90, 40)
        held_out = prepared.split.validation
        dense = adata.X.toarray()
        dense[held_out] = np.random.default_rng(5).poisson(30, (len(held_out), 40))
        adata.X = sp.csr_matrix(dense)
        adata.write_h5ad(tmp_path / "changed.h5ad")
        second, _ = self.evaluator(tmp_path / "changed.h5ad", tmp_path)
        vectors = []
        for evaluator in (first, second):
            (cells,) = evaluator._sets
            evaluator._baselines[cells.name], evaluator._last[cells.name] = {}, np.zeros((1, 4))
            vectors.append(evaluator._embed_baselines(cells))
        num_train = cells.num_train
        for name in ("pca", "hvg"):
            ours, theirs = (each[name] for each in vectors)
            np.testing.assert_array_equal(ours[:num_train], theirs[:num_train])
            assert (ours[num_train:] != theirs[num_train:]).any()

    def test_are_read_no_more_often_than_needed(self, data, tmp_path, monkeypatch):
        """By the model, by the untrained one and for counts the first time; by the model after that."""
        config = load_config(configured(tmp_path, data), ["eval.baselines=[pca, hvg, random, untrained]"])
        prepared = prepare_data(config)

        def make():
            return build_model(config.model, prepared.tokenizer)

        evaluator = run_evaluator(config, prepared, untrained=make)
        reads = []
        real = read_cells.sequential_loader
        monkeypatch.setattr(read_cells, "sequential_loader", lambda *a, **b: reads.append(1) or real(*a, **b))
        for expected in (3, 4, 5):
            evaluator.evaluate(make(), model_id="m", device=torch.device("cpu"))
            assert len(reads) == expected


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_choose_the_same_checkpoint_as_one(data, tmp_path):
    from tests.test_two_processes import run_command

    one, two = (configured(tmp_path, data, name=name) for name in ("one", "two"))
    same = ["--set", "model.dropout=0.0", "--set", "training.accelerator=cpu"]
    shared = ["--set", "training.devices=2", "--set", "training.batch_size=4"]
    for words in (["train", one, *same], ["train", two, *same, *shared]):
        done = run_command(*words)
        assert done.returncode == 0, done.stderr
    expected, found = scores(tmp_path / "one"), scores(tmp_path / "two")
    assert list(found) == list(expected) == [3, 6, 8]
    assert list(found.values()) == pytest.approx(list(expected.values()), abs=1e-5)
    best = "checkpoints/best"
    assert (tmp_path / "two" / best).read_text() == (tmp_path / "one" / best).read_text()
    refused = run_command("train", two, *same, *shared, "--force", "--set", f"output.best_metric={KEY}s")
    assert refused.returncode == 2
    assert refused.stderr.count("error: output.best_metric") == 1
