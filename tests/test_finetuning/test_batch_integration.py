"""Runs that integrate batches: what they learn, say and refuse, and the recipe."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge import datasets, tl
from scmodelforge.cli.main import app
from scmodelforge.eval.base import Record
from scmodelforge.finetuning.no_harm import harm_notes
from scmodelforge.hub import load_bundle
from scmodelforge.workflows.label_predictions import label_head
from tests.conftest import make_adata
from tests.test_finetuning.test_runs import BASE, TUNED, refused, write
from tests.test_life_cycle import invoke, losses
from tests.test_two_processes import run_command

RECIPES = Path(__file__).parents[2] / "configs" / "recipes"


def shifted(num_cells: int = 96) -> ad.AnnData:
    """Return cells of three batches, each with an efficiency of its own for each gene."""
    adata = make_adata(num_cells, 30)
    rng = np.random.default_rng(1)
    batches = np.arange(num_cells) % 3
    kept = rng.uniform(0.2, 1.0, (3, 30))
    adata.X = adata.X.multiply(kept[batches]).ceil().tocsr().astype(np.float32)
    adata.obs["batch"] = [f"b{number}" for number in batches]
    return adata


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with cells and a base model."""
    folder = tmp_path_factory.mktemp("integration")
    shifted().write_h5ad(folder / "cells.h5ad")
    invoke("train", write(folder / "base.yaml", BASE, data__paths=[str(folder / "cells.h5ad")]))
    return folder


def tuned(folder: Path, tmp_path: Path, name: str = "tuned", **changes) -> Path:
    own = {
        "data__paths": [str(folder / "cells.h5ad")],
        "data__batch_column": "batch",
        "data__split": {"by": "cells", "validation_fraction": 0.3},
        "finetune__base_model": str(folder / "base"),
        "finetune__task": "batch_integration",
        **changes,
    }
    return write(tmp_path / f"{name}.yaml", TUNED, **own)


def embedded(folder: Path, run: Path) -> np.ndarray:
    return tl.embed(ad.read_h5ad(folder / "cells.h5ad"), run, copy=True).obsm["X_scmodelforge"]


class TestRuns:
    def test_embedding_is_the_integrated_one(self, folder, tmp_path):
        invoke("train", tuned(folder, tmp_path))
        bundle = load_bundle(tmp_path / "tuned" / "model")
        assert bundle.model_config.num_batches == 3
        assert bundle.labels["batch_labels"]["categories"] == ["b0", "b1", "b2"]
        before, after = embedded(folder, folder / "base"), embedded(folder, tmp_path / "tuned")
        assert np.isfinite(after).all()
        assert not np.allclose(before, after, atol=1e-3)

    def test_the_run_ends_with_scores_beside_the_base_model(self, folder, tmp_path):
        path = tuned(folder, tmp_path, training__max_epochs=1)
        settings = yaml.safe_load(path.read_text())
        settings["eval"] = {"baselines": ["pca", "untrained"]}
        path.write_text(yaml.safe_dump(settings))
        said = invoke("train", path)
        assert "batch_integration (heldout)" in said
        assert "'untrained' in these tables is the base model before fine-tuning (zero-shot)" in said

    def test_codes_of_batches_do_not_matter(self, folder, tmp_path):
        other = ad.read_h5ad(folder / "cells.h5ad")
        other.obs["batch"] = other.obs["batch"].map({"b0": "z", "b1": "a", "b2": "k"}).astype(str)
        other.write_h5ad(tmp_path / "cells.h5ad")
        invoke("train", tuned(folder, tmp_path, "one"))
        invoke("train", tuned(folder, tmp_path, "two", data__paths=[str(tmp_path / "cells.h5ad")]))
        one, two = (load_bundle(tmp_path / name / "model") for name in ("one", "two"))
        assert one.labels["batch_labels"]["categories"] != two.labels["batch_labels"]["categories"]
        # AdamW makes a step of a rounding error where a gradient is zero, so weights agree less closely.
        rows = [embedded(folder, tmp_path / name) for name in ("one", "two")]
        moved = rows[0] - embedded(folder, folder / "base")
        assert np.abs(rows[0] - rows[1]).max() < 0.01 * np.abs(moved).max()

    @pytest.mark.parametrize("positives", ["views", "labels"])
    def test_other_positives(self, folder, tmp_path, positives):
        invoke("train", tuned(folder, tmp_path, finetune__head={"positives": positives}, training__max_epochs=1))
        bundle = load_bundle(tmp_path / "tuned" / "model")
        assert bundle.model_config.head.positives == positives
        assert label_head(bundle.model, bundle.model_config, bundle.labels) is None  # types are read, not named

    def test_cells_of_batches_that_were_not_trained_on(self, folder, tmp_path):
        split = {"by": "batch", "validation_groups": ["b2"]}
        invoke("train", tuned(folder, tmp_path, data__split=split))
        bundle = load_bundle(tmp_path / "tuned" / "model")
        assert bundle.labels["batch_labels"]["categories"] == ["b0", "b1"]
        assert np.isfinite(embedded(folder, tmp_path / "tuned")).all()

    def test_resumed_equals_unbroken(self, folder, tmp_path, monkeypatch):
        from scmodelforge.training import loop

        whole, broken = tuned(folder, tmp_path, "one"), tuned(folder, tmp_path, "two")
        invoke("train", whole)
        real = loop.Progress.__setattr__

        def stop_at(progress, name, value):
            real(progress, name, value)
            if name == "step" and value == 6:
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(loop.Progress, "__setattr__", stop_at)
        previous = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            assert CliRunner().invoke(app, ["train", str(broken)]).exit_code == 1
        finally:
            signal.signal(signal.SIGINT, previous)
        monkeypatch.undo()
        assert max(losses(tmp_path / "two")) == 6
        invoke("train", "--resume", tmp_path / "two")
        assert losses(tmp_path / "two") == losses(tmp_path / "one")
        weights = "model/model.safetensors"
        assert (tmp_path / "two" / weights).read_bytes() == (tmp_path / "one" / weights).read_bytes()


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"data__batch_column": None}, "data.batch_column is not set, but task 'batch_integration'"),
            ({"data__batch_column": "plate"}, "plate"),
            ({"finetune__adaptation": "frozen"}, "finetune.adaptation 'frozen' trains the head alone"),
            (
                {"data__label_column": None, "finetune__head": {"positives": "labels"}},
                "finetune.head.positives is 'labels', but data.label_column is not set",
            ),
            ({"finetune__head": {"adversary": 1.0}}, "adversary"),
            (
                {"finetune__head": {"reconstruction_weight": 0.0}},
                "so there is no val/loss for output.best_metric",
            ),
            (
                {
                    "finetune__head": dict.fromkeys(
                        ("adversary_weight", "contrast_weight", "reconstruction_weight"), 0.0
                    )
                },
                "are all 0, so nothing would be learned",
            ),
        ],
    )
    def test_of_settings(self, folder, tmp_path, changes, words):
        assert words in refused(tuned(folder, tmp_path, **changes))

    def test_of_scores_without_labels(self, folder, tmp_path):
        path = tuned(folder, tmp_path, data__label_column=None)
        settings = yaml.safe_load(path.read_text())
        del settings["eval"]
        path.write_text(yaml.safe_dump(settings))
        assert "label" in refused(path)

    def test_of_one_batch(self, folder, tmp_path):
        adata = make_adata(40, 30)
        adata.obs["batch"] = "only"
        adata.write_h5ad(tmp_path / "one.h5ad")
        line = refused(tuned(folder, tmp_path, data__paths=[str(tmp_path / "one.h5ad")]))
        assert "the training cells have 1 label(s) in obs column 'batch' (data.batch_column)" in line


class TestHarm:
    def record(self, value: float, **baselines: float) -> Record:
        return Record("batch_integration", "heldout", "model", "total", value, baselines=baselines)

    def test_a_total_below_one_of_the_others_is_said(self):
        (line,) = harm_notes([self.record(0.5, untrained=0.4, pca=0.55)])
        assert "warning: fine-tuning did harm on heldout" in line
        assert "0.500, below PCA of the counts 0.550" in line
        assert "base model" not in line

    def test_both_are_named(self):
        (line,) = harm_notes([self.record(0.3, untrained=0.4, pca=0.55)])
        assert "zero-shot) 0.400 and PCA of the counts 0.550" in line

    def test_a_total_above_both_is_no_harm(self):
        assert harm_notes([self.record(0.6, untrained=0.4, pca=0.55)]) == []

    def test_no_score_says_nothing(self):
        assert harm_notes([]) == []
        other = Record("embedding_quality", "heldout", "model", "total", 0.1, baselines={"pca": 0.5})
        assert harm_notes([other]) == []


@pytest.mark.slow
def test_the_recipe_runs_on_the_cells_that_ship(tmp_path):
    base = {**BASE, "data": {"gene_vocab": "from_data", "num_workers": 0, "paths": ["dataset://pbmc68k_reduced"]}}
    invoke("train", write(tmp_path / "base.yaml", base))
    words = ["--epochs", 1, "--out", tmp_path / "run", "--set", "data.num_workers=0"]
    words += ["--base-model", tmp_path / "base", "--data", "dataset://pbmc68k_reduced"]
    said = invoke("finetune", "--task", "batch_integration", "--batch", "channel", "--label", "bulk_labels", *words)
    assert "batch_integration (heldout)" in said
    assert (
        load_bundle(tmp_path / "run" / "model").model_config.num_batches
        == datasets.load("pbmc68k_reduced").obs["channel"].nunique()
    )


@pytest.mark.distributed
@pytest.mark.slow
def test_two_processes_learn_as_one(folder, tmp_path):
    """All but the contrast, which compares the cells that a process has together."""
    still = {**BASE, "model": {**BASE["model"], "dropout": 0.0}}
    invoke("train", write(tmp_path / "base.yaml", still, data__paths=[str(folder / "cells.h5ad")]))
    own = {"finetune__base_model": str(tmp_path / "base"), "finetune__head": {"contrast_weight": 0.0}}
    one = tuned(folder, tmp_path, "one", training__batch_size=16, **own)
    two = tuned(folder, tmp_path, "two", training__batch_size=8, training__devices=2, **own)
    for path in (one, two):
        done = run_command("train", path)
        assert done.returncode == 0, done.stderr
    first, second = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(first) == list(second)
    assert max(abs(first[step] - second[step]) for step in first) < 1e-5
