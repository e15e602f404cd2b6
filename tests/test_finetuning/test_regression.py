"""Regression: numbers are learned on their own scale, and cells without one are no targets."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import scmodelforge as smf
from scmodelforge._errors import ConfigError
from scmodelforge.cli.main import app
from scmodelforge.eval.base import Record
from scmodelforge.eval.regression import mean_absolute_error, pearson, r_squared, ridge_on_components, score_numbers
from scmodelforge.finetuning.predictions import Naming
from scmodelforge.finetuning.tasks.regression import RegressionTask, ValuesHead, ValuesHeadConfig
from scmodelforge.hub import load_bundle
from scmodelforge.models.fine_tuned import FineTunedConfig, FineTuneModel
from scmodelforge.workflows.runfolder import RunFolder
from tests.test_life_cycle import invoke
from tests.test_workflows.ready_models import ready_model

TASK = {"task": "regression", "targets": ["score"]}


@pytest.fixture(scope="module")
def finished(place, tmp_path_factory):
    """Return the folder of a run that had time to learn."""
    import yaml

    folder = tmp_path_factory.mktemp("regression")
    config = {
        "data": {"paths": [str(place / "cells.h5ad")], "split": {"by": "cells", "validation_fraction": 0.3},
                 "num_workers": 0},
        "finetune": {"base_model": str(place / "base"), **TASK},
        "training": {"batch_size": 16, "max_epochs": 30, "optimizer": {"lr": 1e-2}, "precision": "32-true",
                     "accelerator": "cpu"},
        "output": {"run_dir": str(folder / "run"), "tensorboard": False},
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    invoke("train", "--config", folder / "run.yaml")
    return folder


def test_mean_and_sd_of_training_cells_are_saved(finished, place):
    head = load_bundle(finished / "run" / "model").model_config.head
    train = RunFolder.read(finished / "run")[2].train
    numbers = ad.read_h5ad(place / "cells.h5ad").obs["score"].to_numpy()[train]
    assert head.columns == ["score"]
    assert head.means[0] == pytest.approx(np.nanmean(numbers))
    assert head.sds[0] == pytest.approx(np.nanstd(numbers))


def test_held_out_cells_are_scored_beside_simple_guesses(finished):
    records = [json.loads(line) for line in (finished / "run" / "exported_results.jsonl").read_text().splitlines()]
    found = {(record["metric"], record["representation"]): record for record in records}
    assert {name for _, name in found} == {"model", "training_mean", "ridge_pca"}
    assert {metric for metric, _ in found} == {"r2_score", "pearson_score", "mae_score"}
    assert found["r2_score", "model"]["value"] > 0.3  # two genes tell it
    assert found["r2_score", "training_mean"]["value"] <= 0
    assert found["pearson_score", "training_mean"]["value"] is None
    assert found["mae_score", "model"]["higher_is_better"] is False
    assert found["r2_score", "model"]["baselines"]["ridge_pca"] == found["r2_score", "ridge_pca"]["value"]


def test_predict_writes_numbers_on_the_scale_of_the_column(finished, place):
    invoke("predict", place / "cells.h5ad", finished / "out.h5ad", "--model", finished / "run")
    out = ad.read_h5ad(finished / "out.h5ad")
    found, truth = out.obs["scmodelforge_score"].to_numpy(), out.obs["score"].to_numpy()
    known = np.isfinite(truth)
    assert np.isfinite(found).all()  # also of cells that have no number
    assert np.abs(found - truth)[known].mean() < 0.9 * np.abs(truth - np.nanmean(truth))[known].mean()
    assert out.uns["scmodelforge_values"]["columns"] == "score"
    again = smf.tl.predict(ad.read_h5ad(place / "cells.h5ad"), finished / "run", copy=True, batch_size=7)
    np.testing.assert_allclose(again.obs["scmodelforge_score"].to_numpy(), found, rtol=1e-6)


def test_annotate_says_what_to_call(finished, place):
    with pytest.raises(Exception, match=r"has learned values, no cell types; call tl\.predict"):
        smf.tl.annotate(ad.read_h5ad(place / "cells.h5ad"), finished / "run")


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_a_cell_without_a_number_changes_nothing(loss):
    bundle = ready_model(dropout=0.0)
    head = ValuesHeadConfig(columns=["a", "b"], loss=loss)
    config = FineTunedConfig(backbone=bundle.model_config, vocab_size=len(bundle.vocab), head=head)
    torch.manual_seed(0)
    model = FineTuneModel(config)
    assert isinstance(model.head, ValuesHead)
    ids = torch.randint(4, 30, (6, 8))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "values": torch.rand(6, 8)}
    truth = torch.randn(6, 2) * 3
    truth[1] = torch.nan
    truth[4, 0] = torch.nan
    loss_of_all = model(**batch, cell_values=truth).loss
    scores = model.score(**batch)
    known = torch.isfinite(truth)
    errors = (scores - truth)[known]
    small = errors.abs() <= 1
    expected = torch.where(small, errors**2 / 2, errors.abs() - 0.5) if loss == "huber" else errors**2
    torch.testing.assert_close(loss_of_all, expected.mean())
    loss_of_all.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def made(benchmark, name, metric, value, **facts):
    return Record(benchmark, "cells", name, metric, value, **facts)


def test_a_checkpoint_chosen_by_the_scored_cells_is_told_to_be_so(finished):
    records = [json.loads(line) for line in (finished / "run" / "exported_results.jsonl").read_text().splitlines()]
    for each in records:
        own = each["params"].get("checkpoint_chosen_on_scored_cells", False)
        assert own is (each["representation"] == "model")


class TestScores:
    def test_by_hand(self):
        truth, found = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 5.0])
        assert mean_absolute_error(truth, found) == pytest.approx(2 / 3)
        assert r_squared(truth, found) == pytest.approx(1 - 4 / 2)
        assert pearson(truth, found) == pytest.approx(np.corrcoef(truth, found)[0, 1])
        assert np.isnan(pearson(truth, np.full(3, 0.1)))

    def test_cells_without_truth_are_skipped_and_counted(self):
        def record(*args, **facts):
            benchmark, name, metric, value = args
            return Record(benchmark, "cells", name, metric, value, **facts)

        truth = np.array([1.0, np.nan, 3.0, 4.0])
        for each in score_numbers("age", truth, {"model": np.array([1.0, 9.0, 3.0, 4.5])}, record):
            assert (each.n, each.n_skipped) == (3, 1)
            assert each.interval[0] <= each.value <= each.interval[1]

    def test_donors_are_drawn_whole(self):
        rng = np.random.default_rng(0)
        donors = np.repeat(["a", "b", "c", "d", ""], 40)
        truth = rng.normal(size=200)
        # what is wrong is wrong of whole donors
        found = truth + np.repeat([0.0, 2.0, -2.0, 0.1, 0.0], 40) + rng.normal(0, 0.1, 200)
        own = {"groups": donors, "group_key": "donor_id"}
        (mae,) = (
            each for each in score_numbers("age", truth, {"model": found}, made, **own) if each.metric == "mae_age"
        )
        assert mae.group_key == "donor_id"
        assert mae.params == {"num_groups": 4, "num_without_group": 40}
        width, of_cells = (high - low for low, high in (mae.group_interval, mae.interval))
        assert width > 3 * of_cells
        few = {"groups": np.where(donors == "", "", "a"), "group_key": "donor_id"}
        for each in score_numbers("age", truth, {"model": found}, made, **few):
            assert (each.group_interval, each.group_key, each.params["num_groups"]) == (None, None, 1)

    def test_fewer_than_two_numbers_are_a_record_with_its_reason(self):
        truth = np.array([1.0, np.nan, np.nan])
        found = score_numbers("age", truth, {"model": np.ones(3), "training_mean": np.ones(3)}, made)
        assert len(found) == 6
        for each in found:
            assert (each.value, each.n, each.n_skipped) == (None, 0, 3)
            assert each.skipped_reason == "1 of the held-out cells have a number in obs column 'age'; two are needed"

    def test_ridge_finds_what_is_linear_in_the_components(self):
        import scipy.sparse as sp

        rng = np.random.default_rng(0)
        numbers = rng.random(200)  # from one program of genes to another
        rates = np.outer(numbers, np.repeat([40.0, 0], 10)) + np.outer(1 - numbers, np.repeat([0, 40.0], 10))
        counts = sp.csr_matrix(rng.poisson(rates).astype(np.float32))
        found = ridge_on_components(counts, numbers[:150, None])
        assert found.shape == (50, 1)
        assert r_squared(numbers[150:], found[:, 0]) > 0.5


@pytest.mark.parametrize(
    ("finetune", "words"),
    [
        ({"targets": []}, "finetune.targets is not set"),
        ({"targets": ["score", "score"]}, "finetune.targets names score, score"),
        ({"targets": ["donor_id"]}, "obs column 'donor_id' (finetune.targets) holds 'd0', which is no number"),
        ({"targets": ["age"]}, "'age'"),
    ],
)
def test_what_cannot_be_learned_is_one_line(finetune, words, settings, tmp_path):
    result = CliRunner().invoke(app, ["train", "--config", str(settings(**(TASK | finetune)))])
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()[-1]) > 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("task", "name", "value"),
    [
        ("regression", "means", [1.0]),
        ("regression", "sds", [1.0]),
        ("regression", "columns", ["score"]),
        ("gene_classification", "classes", ["a", "b"]),
        ("gene_classification", "train_genes", {"GENE000": "a"}),
        ("gene_classification", "held_out_genes", {"GENE000": "a"}),
        ("perturbation_prediction", "num_genes", 7),
        ("perturbation_prediction", "has_dose", True),
    ],
)
def test_what_a_run_fills_in_is_refused(task, name, value, settings):
    path = settings(task=task, head={name: value})
    result = CliRunner().invoke(app, ["train", "--config", str(path)])
    assert result.exit_code == 2
    assert f"head.{name} is filled in when a run starts, from " in result.stderr


def test_the_settings_of_a_run_make_it_again(finished, tmp_path):
    import yaml

    settings = yaml.safe_load((finished / "run" / "config.yaml").read_text())
    settings["output"] = {"run_dir": str(tmp_path / "again"), "tensorboard": False}
    settings["training"]["max_epochs"] = 1
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(settings))
    invoke("train", "--config", tmp_path / "again.yaml")
    heads = (load_bundle(run / "model").model_config.head for run in (finished / "run", tmp_path / "again"))
    assert next(heads).means == next(heads).means


@pytest.mark.parametrize(
    ("naming", "name"), [(Naming(min_confidence=0.5), "min_confidence"), (Naming(unknown="?"), "unknown")]
)
def test_numbers_are_never_unknown(naming, name):
    with pytest.raises(ConfigError, match=f"{name} has no effect with a model that learned numbers; leave it out"):
        RegressionTask.predictor(None, naming)
