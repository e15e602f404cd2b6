"""Scores of a run of perturbations: of the cells asked for, at the doses measured, from the mean of all controls."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from scmodelforge import tl
from scmodelforge.eval.perturbation.splits import read_conditions
from scmodelforge.eval.records import read_records
from scmodelforge.finetuning.perturbation.predicting import Trained
from tests.test_finetuning.planted import CONTROL, planted
from tests.test_finetuning.test_perturbation_runs import BASE, TUNE, write
from tests.test_life_cycle import invoke

CONTROLS = 230  # more than are predicted from
SHORT = TUNE.replace("batch_size: 12, max_epochs: 4", "batch_size: 48, max_epochs: 1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with a screen of many controls and a base model."""
    folder = tmp_path_factory.mktemp("scores")
    planted(6, 24, cells=12, controls=CONTROLS).write_h5ad(folder / "screen.h5ad")
    invoke("train", "--config", write(folder, "base", BASE, folder / "screen.h5ad", data={"gene_vocab": "from_data"}))
    return folder


def train(folder: Path, name: str, screen: ad.AnnData, **sections) -> Path:
    """Train on a screen, and return the run's folder."""
    (folder / name).mkdir()
    path = folder / name / "screen.h5ad"
    screen.write_h5ad(path)
    own = {"base_model": str(folder / "base"), "task": "perturbation_prediction", "hold_out": "combination"}
    sections["finetune"] = own | sections.get("finetune", {})
    invoke("train", "--config", write(folder / name, "run", SHORT, path, **sections))
    return folder / name / "run"


def logged(screen: ad.AnnData) -> np.ndarray:
    return np.log1p(screen.X / screen.X.sum(axis=1, keepdims=True) * 1e4)


def values(path: Path, metric: str) -> dict[str, float]:
    return {r.representation: r.value for r in read_records(path) if r.metric == metric}


@pytest.mark.slow
def test_cells_that_are_filtered_out_are_not_scored(folder):
    screen = ad.read_h5ad(folder / "screen.h5ad")
    rng = np.random.default_rng(0)
    is_good = rng.random(screen.n_obs) < 0.6
    screen.X[~is_good] = rng.permuted(screen.X[~is_good], axis=1)
    screen.obs["good"] = np.where(is_good, "yes", "no")
    only_bad = "GENE000+GENE001"
    screen.obs.loc[(screen.obs["condition"] == only_bad).to_numpy(), "good"] = "no"
    run = train(folder, "filtered", screen, data={"filter": "good == 'yes'"})
    split = read_conditions(run / "perturbations.json")
    assert only_bad not in {name for own in split.values() for _, name in own}
    kept, names = (screen.obs["good"] == "yes").to_numpy(), screen.obs["condition"].to_numpy()
    mean = {name: logged(screen)[kept & (names == name)].mean(axis=0) for name in set(names[kept])}
    changes = {name: own - mean[CONTROL] for name, own in mean.items()}
    test, trained = ([name for _, name in split[part]] for part in ("test", "train"))
    mean_change = np.mean([changes[name] for name in trained], axis=0)
    truth = np.array([changes[name] for name in test])
    found = values(run / "exported_results.jsonl", "rmse")
    for name, change in (("no_change", 0.0), ("perturbed_mean", mean_change)):
        errors = np.sqrt(np.square(truth - change).mean(axis=1))
        assert found[name] == pytest.approx(errors.mean(), rel=1e-5)


@pytest.mark.slow
def test_a_model_of_no_change_scores_as_no_change(folder, monkeypatch):
    def nothing(model, embeddings, covariate, groups, *, dose=None):
        return np.zeros((len(embeddings), len(groups), len(model.tokens)), np.float32)

    monkeypatch.setattr(Trained, "changes", nothing)
    run = train(folder, "none", ad.read_h5ad(folder / "screen.h5ad"))
    for metric in ("rmse", "mae"):
        found = values(run / "exported_results.jsonl", metric)
        assert found["model"] == pytest.approx(found["no_change"], rel=1e-6)


@pytest.mark.slow
def test_what_predict_writes_from_some_of_the_controls_is_what_the_run_scored(folder, tmp_path):
    screen = ad.read_h5ad(folder / "screen.h5ad")
    run = train(folder, "many", screen)
    invoke("predict", folder / "screen.h5ad", tmp_path / "predicted.h5ad", "--model", run)
    screen.X = logged(screen)
    screen.write_h5ad(tmp_path / "logged.h5ad")
    words = ["--scale", "log1p", "--condition", "condition", "--control", CONTROL, "--out", tmp_path / "out.jsonl"]
    words += ["--train-conditions", run / "perturbations.json", "--data", tmp_path / "logged.h5ad"]
    invoke("evaluate", "--predictions", tmp_path / "predicted.h5ad", *words)
    for metric in ("rmse", "mae", "pearson_delta"):
        ours, theirs = (values(path, metric) for path in (run / "exported_results.jsonl", tmp_path / "out.jsonl"))
        common = set(ours) & set(theirs)  # vectors of the base model are not given to evaluate
        assert {"model", "additive", "perturbed_mean"} <= common
        for name in common - {"no_change"}:
            assert theirs[name] == pytest.approx(ours[name], rel=1e-4), (metric, name)


def with_doses(screen: ad.AnnData) -> ad.AnnData:
    is_control = (screen.obs["condition"] == CONTROL).to_numpy()
    doses = np.where(np.arange(screen.n_obs) % 3 == 0, 100.0, 1.0)
    doses[is_control | (np.arange(screen.n_obs) % 4 == 0)] = np.nan
    screen.obs["dose"] = doses
    screen.X[doses == 100.0] = np.round(screen.X[doses == 100.0] ** 1.3)
    return screen


@pytest.mark.slow
def test_conditions_of_several_doses_are_predicted_and_scored_at_these(folder):
    screen = with_doses(ad.read_h5ad(folder / "screen.h5ad"))
    run = train(folder, "doses", screen, finetune={"dose_column": "dose"})
    test = sorted(name for _, name in read_conditions(run / "perturbations.json")["test"])
    asked = {"conditions": test, "means": True}
    means, low, high = (tl.predict_perturbation(screen, run, **asked, dose=dose).X for dose in (None, 1.0, 100.0))
    assert not np.allclose(low, high, atol=1e-4)
    names, has_dose = screen.obs["condition"].to_numpy(), screen.obs["dose"].notna().to_numpy()
    control = logged(screen)[names == CONTROL].mean(axis=0)
    errors = []
    for row, name in enumerate(test):
        own = (names == name) & has_dose  # those without a dose are not scored
        share = (screen.obs["dose"][own] == 100.0).mean()
        assert np.allclose(means[row], share * high[row] + (1 - share) * low[row], atol=1e-5)
        errors.append(np.sqrt(np.square(logged(screen)[own].mean(axis=0) - control).mean()))
    found = values(run / "exported_results.jsonl", "rmse")
    assert found["no_change"] == pytest.approx(np.mean(errors), rel=1e-5)


@pytest.mark.slow
def test_controls_of_several_names_are_all_predicted_from(folder, tmp_path):
    screen = ad.read_h5ad(folder / "screen.h5ad")
    names = screen.obs["condition"].astype(str).to_numpy()
    controls = np.flatnonzero(names == CONTROL)
    names[controls] = [f"non-targeting_{number % 3}" for number in range(len(controls))]
    screen.obs["condition"] = names
    run = train(folder, "guides", screen)
    split = read_conditions(run / "perturbations.json")
    assert not any("non-targeting" in name for own in split.values() for _, name in own)
    cells = tl.predict_perturbation(screen, run, conditions=["GENE001"], max_cells=1000)
    assert cells.n_obs == CONTROLS
