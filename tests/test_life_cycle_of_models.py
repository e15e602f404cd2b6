"""Every registered model: train, interrupt, resume, embed, evaluate, fine-tune, predict, push, pull, load.

Each works on what the step before wrote.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from scmodelforge._registry import MODELS
from scmodelforge.cli.main import app
from scmodelforge.hub import load_bundle, save_bundle
from tests.conftest import make_adata
from tests.hub_stub import PUSHES, hub_stub, use_hub
from tests.test_life_cycle import invoke, losses, settings
from tests.test_matrix import REFUSED, VARIANTS, names

TOKENIZER = {model: {"strategy": "binned_expression"} for _, model in REFUSED}
TOKENIZER["transcriptformer"] = VARIANTS["continuous_projection, attention_bias"]

WIDTH = {"scdiva": 128}  # of embeddings: its latent dimension


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    make_adata(80, 30).write_h5ad(path)
    return path


def write_settings(folder: Path, data: Path, name: str, architecture: str, **changes) -> Path:
    config = settings(data, folder / name, training__max_epochs=2, eval__every_n_epochs=2, **changes)
    config["tokenizer"] |= TOKENIZER.get(architecture, {"strategy": "rank_value"})
    config["model"] |= {"architecture": architecture, "max_seq_len": 40}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


#: The others are tried in .ci/full.
QUICK = ("transformer_encoder", "autoregressive_transformer")


@PUSHES
@pytest.mark.parametrize(
    "architecture", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names(MODELS)]
)
def test_life_cycle(architecture, data, tmp_path, monkeypatch):
    from scmodelforge.training import loop

    whole = write_settings(tmp_path, data, "whole", architecture)
    # what is evaluated in training does not change the weights
    broken = write_settings(tmp_path, data, "broken", architecture, eval__benchmarks=[])
    invoke("train", "--config", whole)

    real = loop.Progress.__setattr__

    def stop_at(progress, name, value):
        real(progress, name, value)
        if name == "step" and value == 8:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Progress, "__setattr__", stop_at)
        result = CliRunner().invoke(app, ["train", "--config", str(broken)])
    assert result.exit_code == 1, result.output
    invoke("train", "--resume", tmp_path / "broken")
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    weights = [load_file(tmp_path / name / "model/model.safetensors") for name in ("whole", "broken")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])

    embedded = tmp_path / "embedded.h5ad"
    invoke("embed", data, embedded, "--model", tmp_path / "broken")
    rows = ad.read_h5ad(embedded).obsm["X_scmodelforge"]
    assert rows.shape == (80, WIDTH.get(architecture, 16))
    assert np.isfinite(rows).all()
    assert rows.std(axis=0).min() > 0

    lines = invoke("evaluate", tmp_path / "broken", "--json").strip().splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    assert {"model", "pca", "random", "untrained"} <= {record["representation"] for record in records}

    bundle = load_bundle(tmp_path / "broken" / "model")
    save_bundle(tmp_path / "again", bundle, card="a card")
    invoke("embed", data, tmp_path / "again.h5ad", "--model", tmp_path / "again")
    np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "again.h5ad").obsm["X_scmodelforge"], rows)

    tuned = fine_tune(tmp_path, data, base=tmp_path / "broken")
    invoke("predict", data, tmp_path / "named.h5ad", "--model", tuned)
    named = ad.read_h5ad(tmp_path / "named.h5ad")
    (labels,) = (column for column in named.obs if column.endswith("_label"))
    assert {*named.obs[labels].astype(str)} <= {"type0", "type1", "type2"}

    with hub_stub() as stub, monkeypatch.context() as patch:
        patch.setenv("SCMODELFORGE_CACHE", str(tmp_path / "cache"))
        use_hub(patch, stub.url, tmp_path / "hub")
        invoke("hub", "push", tuned, "me/tuned", "--licence", "MIT")
        invoke("hub", "pull", "hf://me/tuned", tmp_path / "pulled")
    pulled, own = load_bundle(tmp_path / "pulled"), load_bundle(tuned / "model")
    assert pulled.labels == own.labels
    weights = [bundle.model.state_dict() for bundle in (pulled, own)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def fine_tune(folder: Path, data: Path, *, base: Path) -> Path:
    """Fine-tune a run's model to the cell types of the data, and return the run."""
    small = ("training.accelerator=cpu", "training.precision=32-true", "output.tensorboard=false", "eval.benchmarks=[]")
    options = [word for change in small for word in ("--set", change)]
    names = ("--base-model", base, "--data", data, "--task", "cell_type_annotation", "--label", "cell_type")
    invoke("finetune", *names, "--epochs", 2, "--lr", 1e-3, "--out", folder / "tuned", *options)
    return folder / "tuned"
