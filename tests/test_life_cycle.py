"""The whole way on real files: train, interrupt, resume, embed, evaluate; each on what the step before wrote."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from tests.conftest import make_adata
from tests.test_data.zarr_stores import copy_in_other_form

EPOCHS = 3


def settings(data: Path, run_dir: Path, **changes) -> dict:
    config = {
        "data": {
            "paths": [str(data)],
            "gene_vocab": "from_data",
            "label_column": "cell_type",
            "batch_column": "batch",
            "split": {"by": "donor_id", "validation_fraction": 0.3},
            "num_workers": 1,
        },
        "tokenizer": {"strategy": "rank_value", "max_genes": 24},
        "model": {
            "architecture": "transformer_encoder",
            "hidden_dim": 16,
            "num_layers": 1,
            "num_heads": 2,
            "max_seq_len": 24,
            "dropout": 0.1,
            "pooling": "mean",
        },
        "training": {
            "batch_size": 8,
            "max_epochs": EPOCHS,
            "precision": "32-true",
            "accelerator": "cpu",
            "optimizer": {"lr": 1e-3},
            "log_every_n_steps": 1,
        },
        "eval": {"benchmarks": ["cell_type_annotation"], "every_n_epochs": EPOCHS},
        "output": {"run_dir": str(run_dir), "tensorboard": False},
    }
    for path, value in changes.items():
        section, _, key = path.partition("__")
        config[section][key] = value
    return config


def invoke(*words: object) -> str:
    """Run a command in this process and return what it wrote; it must succeed."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.output


def train(folder: Path, data: Path, name: str = "run", **changes) -> Path:
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump(settings(data, folder / name, **changes)))
    invoke("train", "--config", config)
    return folder / name


def losses(run: Path) -> dict[int, float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {record["step"]: record["train/loss"] for record in records if "train/loss" in record}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    make_adata(80, 30).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, data) -> Path:
    return train(tmp_path_factory.mktemp("runs"), data)


class TestTrain:
    def test_leaves_a_complete_run_folder(self, run):
        found = {path.name for path in run.iterdir()}
        expected = {"config.yaml", "run.json", "splits.json", "metrics.jsonl", "results.jsonl", "checkpoints", "model"}
        assert expected <= found
        assert (run / "checkpoints" / "last").read_text().strip().startswith("step_")

    def test_reports_the_model_beside_every_baseline(self, run):
        records = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
        assert {"model", "pca", "random", "untrained"} <= {record["representation"] for record in records}

    @pytest.mark.slow
    def test_same_seed_gives_the_same_loss_curve_with_and_without_threads(self, run, data, tmp_path):
        inline = train(tmp_path, data, "inline", data__num_workers=0)
        threads = train(tmp_path, data, "threads", data__num_workers=2)
        assert losses(inline) == losses(threads) == losses(run)

    def test_refuses_an_existing_run_folder_and_leaves_it_alone(self, run):
        before = (run / "metrics.jsonl").read_bytes()
        result = CliRunner().invoke(app, ["train", "--config", str(run.with_suffix(".yaml"))])
        assert result.exit_code == 2
        assert "is not empty" in result.output
        assert "--resume" in result.output
        assert (run / "metrics.jsonl").read_bytes() == before

    def test_force_replaces_it(self, data, tmp_path):
        run = train(tmp_path, data, training__max_epochs=1, eval__benchmarks=[])
        (run / "metrics.jsonl").write_text("old\n")
        invoke("train", "--config", tmp_path / "run.yaml", "--force")
        assert "old" not in (run / "metrics.jsonl").read_text()


class TestResume:
    @pytest.mark.parametrize("after", [2, 7, 11])
    def test_interrupted_equals_uninterrupted(self, run, data, tmp_path, after, monkeypatch):
        from scmodelforge.training import loop

        config = tmp_path / "run.yaml"
        config.write_text(yaml.safe_dump(settings(data, tmp_path / "run")))
        real = loop.Progress.__setattr__

        def stop_at(progress, name, value):
            real(progress, name, value)
            if name == "step" and value == after:
                os.kill(os.getpid(), signal.SIGINT)  # a real Ctrl-C, at a known step

        monkeypatch.setattr(loop.Progress, "__setattr__", stop_at)
        result = CliRunner().invoke(app, ["train", "--config", str(config)])
        monkeypatch.undo()
        assert result.exit_code == 1
        assert f"train --resume {tmp_path / 'run'}" in result.output
        assert max(losses(tmp_path / "run")) == after

        invoke("train", "--resume", tmp_path / "run")
        assert losses(tmp_path / "run") == losses(run)
        weights = "model/model.safetensors"
        assert (tmp_path / "run" / weights).read_bytes() == (run / weights).read_bytes()

    def test_refuses_changed_settings(self, data, tmp_path):
        run = train(tmp_path, data, training__max_epochs=1, eval__benchmarks=[])
        config = run / "config.yaml"
        config.write_text(config.read_text().replace("mask_ratio: 0.15", "mask_ratio: 0.6"))
        result = CliRunner().invoke(app, ["train", "--resume", str(run)])
        assert result.exit_code == 2
        assert "config.yaml was changed since the run began" in result.output

    def test_a_moved_run_resumes_and_evaluates_from_another_folder(self, data, tmp_path, monkeypatch):
        run = train(tmp_path, data, training__max_epochs=1)
        moved = tmp_path / "elsewhere" / "run"
        shutil.move(run, moved)
        (tmp_path / "cwd").mkdir()
        monkeypatch.chdir(tmp_path / "cwd")
        invoke("train", "--resume", moved)
        invoke("evaluate", moved)
        assert not run.exists()

    def test_a_run_killed_before_its_first_checkpoint_can_be_replaced(self, data, tmp_path):
        run = train(tmp_path, data, training__max_epochs=1, eval__benchmarks=[])
        shutil.rmtree(run / "checkpoints")
        (run / "checkpoints" / ".writing_step_00000001").mkdir(parents=True)
        (run / "run.json").unlink()
        invoke("train", "--config", tmp_path / "run.yaml", "--force")
        assert (run / "model" / "config.json").is_file()

    def test_refuses_changed_data(self, data, tmp_path):
        copy = tmp_path / "cells.h5ad"
        shutil.copy(data, copy)
        run = train(tmp_path, copy, training__max_epochs=1, eval__benchmarks=[])
        make_adata(80, 30, seed=1).write_h5ad(copy)
        result = CliRunner().invoke(app, ["train", "--resume", str(run)])
        assert result.exit_code == 2
        assert "is not the file the run was started with" in result.output

    def test_refuses_a_folder_that_is_no_run(self, tmp_path):
        result = CliRunner().invoke(app, ["train", "--resume", str(tmp_path)])
        assert result.exit_code == 2
        assert "is not a run folder" in result.output


class TestEmbed:
    def test_writes_one_row_a_cell_into_a_copy(self, run, data, tmp_path):
        out = tmp_path / "embedded.h5ad"
        invoke("embed", data, out, "--model", run)
        before, after = ad.read_h5ad(data), ad.read_h5ad(out)
        assert after.obsm["X_scmodelforge"].shape == (80, 16)
        assert np.isfinite(after.obsm["X_scmodelforge"]).all()
        assert (after.X != before.X).nnz == 0
        assert list(after.obs_names) == list(before.obs_names)
        assert after.uns["X_scmodelforge"]["architecture"] == "transformer_encoder"

    def test_permuted_genes_and_another_batch_size_give_the_same_embedding(self, run, data, tmp_path):
        invoke("embed", data, tmp_path / "a.h5ad", "--model", run)
        adata = ad.read_h5ad(data)
        adata[:, np.random.default_rng(0).permutation(adata.n_vars)].copy().write_h5ad(tmp_path / "permuted.h5ad")
        invoke("embed", tmp_path / "permuted.h5ad", tmp_path / "b.h5ad", "--model", run, "--batch-size", 7)
        first, second = (ad.read_h5ad(tmp_path / name).obsm["X_scmodelforge"] for name in ("a.h5ad", "b.h5ad"))
        np.testing.assert_allclose(first, second, atol=1e-5)

    def test_a_moved_model_folder_still_works(self, run, data, tmp_path):
        invoke("embed", data, tmp_path / "a.h5ad", "--model", run)
        moved = tmp_path / "elsewhere" / "model"
        shutil.copytree(run / "model", moved)
        invoke("embed", data, tmp_path / "b.h5ad", "--model", moved)
        first, second = (ad.read_h5ad(tmp_path / name).obsm["X_scmodelforge"] for name in ("a.h5ad", "b.h5ad"))
        np.testing.assert_array_equal(first, second)

    def test_cells_without_a_known_gene_get_nan_and_are_counted(self, run, data, tmp_path):
        adata = ad.read_h5ad(data)
        counts = adata.X.toarray()
        counts[3] = 0
        adata.X = type(adata.X)(counts)
        adata.write_h5ad(tmp_path / "one_empty.h5ad")
        output = invoke("embed", tmp_path / "one_empty.h5ad", tmp_path / "out.h5ad", "--model", run)
        rows = ad.read_h5ad(tmp_path / "out.h5ad").obsm["X_scmodelforge"]
        assert np.isnan(rows[3]).all()
        assert np.isfinite(np.delete(rows, 3, axis=0)).all()
        assert "1 of 80 cells" in output

    def test_goes_on_after_an_interruption_but_not_with_another_matrix(self, run, data, tmp_path, monkeypatch):
        from scmodelforge.workflows import embed

        adata = ad.read_h5ad(data)
        adata.layers["other"] = adata.X[::-1].copy()
        adata.write_h5ad(tmp_path / "two.h5ad")
        words = ["embed", tmp_path / "two.h5ad", tmp_path / "out.h5ad", "--model", run, "--batch-size", 16]
        written = embed._Partial.write

        def stop_halfway(part, rows, vectors):
            written(part, rows, vectors)
            if part.done >= 40:
                raise KeyboardInterrupt

        def interrupt(*more):
            with monkeypatch.context() as patch:
                patch.setattr(embed._Partial, "write", stop_halfway)
                result = CliRunner().invoke(app, [str(word) for word in [*words, *more]])
            assert result.exit_code == 1
            assert "the same command goes on from there" in result.output

        def embedding(name, *more):
            invoke("embed", tmp_path / "two.h5ad", tmp_path / name, "--model", run, "--batch-size", 16, *more)
            return ad.read_h5ad(tmp_path / name).obsm["X_scmodelforge"]

        x, other = embedding("x.h5ad", "--layer", "X"), embedding("other.h5ad", "--layer", "other")
        interrupt("--layer", "X")
        np.testing.assert_array_equal(embedding("out.h5ad", "--layer", "X"), x)
        (tmp_path / "out.h5ad").unlink()
        interrupt("--layer", "X")
        np.testing.assert_array_equal(embedding("out.h5ad", "--layer", "other"), other)
        assert not list(tmp_path.glob("*.partial"))

    def test_never_overwrites_unasked(self, run, data, tmp_path):
        out = tmp_path / "out.h5ad"
        out.write_text("precious")
        result = CliRunner().invoke(app, ["embed", str(data), str(out), "--model", str(run)])
        assert result.exit_code == 2
        assert "--force" in result.output
        assert out.read_text() == "precious"


class TestEvaluate:
    def test_a_run_is_scored_on_its_held_out_cells_as_in_training(self, run):
        lines = invoke("evaluate", run, "--json").strip().splitlines()
        again = [json.loads(line) for line in lines if line.startswith("{")]
        stored = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]

        def values(records):
            return {
                (r["representation"], r["metric"]): r["value"]
                for r in records
                if r["benchmark"] == "cell_type_annotation"
            }

        assert values(again) == values(stored[-len(again) :])

    def test_a_second_evaluation_in_training_has_the_baselines_of_the_first(self, data, tmp_path):
        run = train(tmp_path, data, training__max_epochs=2, eval__every_n_epochs=1)
        records = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]

        def at(epoch):
            return {
                (r["representation"], r["metric"]): (r["value"], r["baselines"], r["model_id"])
                for r in records
                if r["epoch"] == epoch
            }

        first, second = at(1), at(2)
        assert first.keys() == second.keys()
        for (representation, metric), (value, baselines, model_id) in second.items():
            assert model_id.endswith("@12")
            if value is None:  # no label is unseen here
                assert first[representation, metric][0] is None
            elif representation == "model":
                assert baselines.keys() == first[representation, metric][1].keys() >= {"pca", "random", "untrained"}
            else:
                assert value == first[representation, metric][0]

    def test_a_model_folder_needs_data(self, run):
        result = CliRunner().invoke(app, ["evaluate", str(run / "model")])
        assert result.exit_code == 2
        assert "--data" in result.output

    def test_a_split_is_refused_for_a_run_and_a_missing_label_column_named(self, run, tmp_path):
        result = CliRunner().invoke(app, ["evaluate", str(run), "--split-by", "batch"])
        assert result.exit_code == 2
        assert "--split-by is for other data" in result.output
        adata = make_adata(90, 30, seed=3)
        adata.obs = adata.obs.rename(columns={"cell_type": "kind"})
        adata.write_h5ad(tmp_path / "other.h5ad")
        result = CliRunner().invoke(app, ["evaluate", str(run), "--data", str(tmp_path / "other.h5ad")])
        assert result.exit_code == 2
        assert "no obs column 'cell_type'; name its column with --label. There are: kind" in result.output

    @pytest.mark.parametrize("form", ["as it is", "scaled, in other order, as zarr"])
    def test_data_the_model_was_trained_on_are_refused_unless_allowed(self, run, data, tmp_path, form):
        path, out = data, tmp_path / "scores.jsonl"
        if form != "as it is":
            path = copy_in_other_form(data, tmp_path)
        words = [str(word) for word in ("evaluate", run / "model", "--data", path, "--label", "cell_type")]
        words += ["--split-by", "cells"]  # by donors it would hold out the donors that the run held out
        result = CliRunner().invoke(app, [*words, "--out", str(out)])
        assert result.exit_code == 2
        assert f"{path.name}: the model was trained on" in result.output
        assert not out.exists()
        output = invoke(*words, "--allow-trained-cells", "--out", out)
        assert "so these scores are not of unseen cells" in output
        assert {json.loads(line)["params"]["trained_on"] for line in out.read_text().splitlines()} == {True}

    def test_says_when_it_is_not_known_what_the_model_was_trained_on(self, run, tmp_path):
        shutil.copytree(run / "model", tmp_path / "model")
        (tmp_path / "model" / "trained_cells.safetensors").unlink()
        make_adata(90, 30, seed=3).write_h5ad(tmp_path / "other.h5ad")
        out = tmp_path / "scores.jsonl"
        words = ("--data", tmp_path / "other.h5ad", "--label", "cell_type", "--out", out)
        assert "does not say which cells it was trained on" in invoke("evaluate", tmp_path / "model", *words)
        assert {json.loads(line)["params"]["trained_on"] for line in out.read_text().splitlines()} == {None}
        assert "does not say" not in invoke("evaluate", run / "model", *words, "--force")
        assert {json.loads(line)["params"]["trained_on"] for line in out.read_text().splitlines()} == {False}

    def test_a_damaged_list_of_trained_cells_is_said_in_one_line(self, run, data, tmp_path):
        shutil.copytree(run / "model", tmp_path / "model")
        (tmp_path / "model" / "trained_cells.safetensors").write_bytes(b"no")
        result = CliRunner().invoke(
            app, ["embed", str(data), str(tmp_path / "y.h5ad"), "--model", str(tmp_path / "model")]
        )
        assert result.exit_code == 2
        assert "trained_cells.safetensors: damaged" in result.output

    def test_an_output_that_cannot_be_written_is_refused_first(self, run, tmp_path):
        for out in (tmp_path / "none" / "x.jsonl", tmp_path):
            result = CliRunner().invoke(app, ["evaluate", str(run), "--out", str(out), "--force"])
            assert result.exit_code == 2, result.output

    def test_a_model_folder_is_scored_on_other_data(self, run, tmp_path):
        make_adata(90, 30, seed=3).write_h5ad(tmp_path / "other.h5ad")
        output = invoke(
            "evaluate",
            run / "model",
            "--data",
            tmp_path / "other.h5ad",
            "--label",
            "cell_type",
            "--split-by",
            "donor_id",
        )
        assert "pca" in output
        assert "untrained" in output
