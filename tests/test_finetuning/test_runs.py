"""A run on a base model: what it brings, what is trained of it, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.hub import load_bundle, load_model
from tests.conftest import make_adata
from tests.test_life_cycle import invoke, losses

BASE = {
    "data": {"gene_vocab": "from_data", "num_workers": 0, "preprocessing": {"normalize": "library_size"}},
    "tokenizer": {"strategy": "binned_expression", "max_genes": 24, "n_bins": 7},
    "model": {"hidden_dim": 16, "num_layers": 3, "num_heads": 2, "max_seq_len": 24, "dropout": 0.1},
    "training": {"batch_size": 16, "max_epochs": 1, "precision": "32-true", "accelerator": "cpu"},
    "eval": {"benchmarks": []},
    "output": {"tensorboard": False},
}
TUNED = {
    "data": {"label_column": "cell_type", "num_workers": 0, "split": {"by": "donor_id", "validation_fraction": 0.3}},
    "finetune": {"task": "cell_type_annotation"},
    "training": {**BASE["training"], "max_epochs": 3, "optimizer": {"lr": 1e-3}, "log_every_n_steps": 1},
    "eval": {"benchmarks": []},
    "output": {"tensorboard": False},
}


def write(path: Path, settings: dict, **changes) -> Path:
    """Write settings with changes ``section__name``; the run folder lies beside them."""
    settings = {name: dict(section) for name, section in settings.items()}
    settings["output"]["run_dir"] = str(path.with_suffix(""))
    for name, value in changes.items():
        section, _, key = name.partition("__")
        settings.setdefault(section, {})[key] = value
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with cells and a base model."""
    folder = tmp_path_factory.mktemp("finetuning")
    make_adata(96, 30).write_h5ad(folder / "cells.h5ad")
    invoke("train", write(folder / "base.yaml", BASE, data__paths=[str(folder / "cells.h5ad")]))
    return folder


def tuned(folder: Path, tmp_path: Path, name: str = "tuned", **changes) -> Path:
    own = {"data__paths": [str(folder / "cells.h5ad")], "finetune__base_model": str(folder / "base"), **changes}
    return write(tmp_path / f"{name}.yaml", TUNED, **own)


def refused(path: Path) -> str:
    result = CliRunner().invoke(app, ["train", str(path)])
    assert result.exit_code == 2, result.output
    assert not path.with_suffix("").exists()
    (line,) = [line for line in result.output.splitlines() if line.startswith("error: ")]
    return line


def changed_parameters(folder: Path, run: Path) -> set[str]:
    """Return the parts of the backbone whose weights are not those of the base model."""
    before = load_bundle(folder / "base" / "model").model.state_dict()
    after = load_bundle(run / "model").model.backbone.state_dict()
    return {".".join(name.split(".")[:3]) for name in after if not torch.equal(after[name], before[name])}


class TestWhatTheBaseModelBrings:
    def test_tokens_genes_and_preprocessing(self, folder, tmp_path):
        path = tuned(folder, tmp_path)
        invoke("train", path)
        base, own = (load_bundle(run / "model") for run in (folder / "base", tmp_path / "tuned"))
        assert own.vocab.genes == base.vocab.genes
        assert own.tokenizer.config == base.tokenizer.config
        assert own.preprocessor.config.normalize == "library_size"
        assert own.labels["categories"] == ["type0", "type1", "type2"]
        assert own.fingerprint["fine_tuned_from"] == base.model_id
        assert own.model_id != base.model_id
        resolved = yaml.safe_load((tmp_path / "tuned" / "config.yaml").read_text())
        assert resolved["model"]["backbone"]["hidden_dim"] == 16
        assert resolved["finetune"]["base_model_id"] == base.model_id

    def test_its_settings_make_the_same_run_again(self, folder, tmp_path):
        invoke("train", tuned(folder, tmp_path))
        first = losses(tmp_path / "tuned")
        again = tmp_path / "again.yaml"
        settings = yaml.safe_load((tmp_path / "tuned" / "config.yaml").read_text())
        settings["output"].update(run_dir=str(tmp_path / "again"), log_dir=None, checkpoint_dir=None)
        again.write_text(yaml.safe_dump(settings))
        invoke("train", again)
        assert losses(tmp_path / "again") == first

    def test_weights_that_continued_pretraining_begins_with(self, folder, tmp_path):
        """Without a step worth the name the weights are those of the base model, all of them."""
        path = tuned(folder, tmp_path, finetune__task="continued_pretraining", data__label_column=None)
        invoke("train", path, "--set", "training.optimizer.lr=1e-30", "--set", "training.max_epochs=1")
        base, own = (load_bundle(run / "model").model.state_dict() for run in (folder / "base", tmp_path / "tuned"))
        assert own.keys() == base.keys()
        assert all(torch.allclose(own[name], base[name], atol=1e-12) for name in base)


class TestAdaptation:
    @pytest.mark.parametrize(
        ("settings", "trained"),
        [
            ({"adaptation": "frozen"}, set()),
            ({"adaptation": "last_n", "last_layers": 1}, {"encoder.layers.2"}),
            # One block more in the second and in the third epoch.
            ({"adaptation": "gradual"}, {"encoder.layers.1", "encoder.layers.2"}),
        ],
    )
    def test_trains_what_it_says(self, folder, tmp_path, settings, trained):
        path = tuned(folder, tmp_path, finetune__base_model=str(folder / "base"))
        words = [f"finetune.{name}={value}" for name, value in settings.items()]
        invoke("train", path, *(word for each in words for word in ("--set", each)))
        assert changed_parameters(folder, tmp_path / "tuned") == trained

    def test_full_trains_all_that_cells_pass(self, folder, tmp_path):
        invoke("train", tuned(folder, tmp_path))
        assert {f"encoder.layers.{number}" for number in range(3)} < changed_parameters(folder, tmp_path / "tuned")

    @pytest.mark.parametrize("adaptation", ["full", "gradual"])
    def test_resumed_equals_unbroken(self, folder, tmp_path, monkeypatch, adaptation):
        from scmodelforge.training import loop

        whole, broken = (tuned(folder, tmp_path, name, finetune__adaptation=adaptation) for name in ("one", "two"))
        for path in (whole, broken):
            settings = yaml.safe_load(path.read_text())
            settings["finetune"]["base_model"] = str(folder / "base")
            path.write_text(yaml.safe_dump(settings))
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
            ({"finetune__task": "cell_type"}, "unknown task 'cell_type'. Did you mean 'cell_type_annotation'?"),
            ({"finetune__base_model": "nowhere"}, "nowhere: no such folder"),
            ({"finetune__adaptation": "half"}, "finetune.adaptation is 'half'; it must be"),
            ({"finetune__last_layers": 2}, "last_layers is read with adaptation 'last_n' only"),
            ({"finetune__base_model_id": "other@1"}, "and finetune.base_model_id is other@1"),
            ({"model__hidden_dim": 32}, "model.architecture is not that of the base model"),
            ({"tokenizer__max_genes": 12}, "is not that of the base model"),
            ({"data__gene_vocab": "from_data"}, "data.gene_vocab is 'from_data', but the genes are those of the base"),
            ({"data__preprocessing": {"log1p": True}}, "data.preprocessing.log1p is True and False in the base model"),
            ({"data__preprocessing": {"hvg_selection": 5}}, "data.preprocessing.hvg_selection chooses genes"),
            ({"data__label_column": None}, "data.label_column is not set"),
            ({"data__label_column": "celltype"}, "celltype"),
        ],
    )
    def test_of_settings(self, folder, tmp_path, changes, words):
        assert words in refused(tuned(folder, tmp_path, **changes))

    def test_of_one_class(self, folder, tmp_path):
        adata = make_adata(40, 30)
        adata.obs["cell_type"] = "T"
        adata.write_h5ad(tmp_path / "one.h5ad")
        assert "have 1 label(s) in obs column 'cell_type'" in refused(
            tuned(folder, tmp_path, data__paths=[str(tmp_path / "one.h5ad")])
        )

    def test_of_genes_that_the_base_model_does_not_know(self, folder, tmp_path):
        make_adata(40, 30, prefix="ENSMUSG").write_h5ad(tmp_path / "mouse.h5ad")
        line = refused(tuned(folder, tmp_path, data__paths=[str(tmp_path / "mouse.h5ad")]))
        assert "None of the 30 genes of mouse.h5ad are in the model's vocabulary" in line

    def test_of_more_blocks_than_there_are(self, folder, tmp_path):
        path = tuned(folder, tmp_path, finetune__adaptation="last_n", finetune__last_layers=9)
        assert "finetune.last_layers is 9, but the base model has 3 blocks" in refused(path)

    def test_of_pretraining_a_model_that_is_fine_tuned(self, folder, tmp_path):
        invoke("train", tuned(folder, tmp_path, "first", training__max_epochs=1))
        path = tuned(
            folder, tmp_path, finetune__base_model=str(tmp_path / "first"), finetune__task="continued_pretraining"
        )
        assert "has no objective of its pretraining left" in refused(path)

    def test_of_resuming_with_another_base_model(self, folder, tmp_path):
        shutil.copytree(folder / "base", tmp_path / "base")
        invoke("train", tuned(folder, tmp_path, finetune__base_model=str(tmp_path / "base")))
        facts = json.loads((tmp_path / "base" / "model" / "fingerprint.json").read_text())
        (tmp_path / "base" / "model" / "fingerprint.json").write_text(json.dumps({**facts, "step": 1}))
        result = CliRunner().invoke(app, ["train", "--resume", str(tmp_path / "tuned")])
        assert result.exit_code == 2
        assert "put that model back" in result.output


def test_a_head_is_taken_off_a_model_that_has_one(folder, tmp_path):
    """The backbone of a fine-tuned model is fine-tuned again, under a new head."""
    invoke("train", tuned(folder, tmp_path, "first", training__max_epochs=1))
    again = tuned(folder, tmp_path, "again", finetune__base_model=str(tmp_path / "first"), data__label_column="batch")
    invoke("train", again, "--set", "finetune.adaptation=frozen")
    first, second = (load_model(tmp_path / name) for name in ("first", "again"))
    assert second.labels["categories"] == ["b0", "b1"]
    one, other = first.model.backbone.state_dict(), second.model.backbone.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
