"""Every tokenizer with every model: trains two steps, or is refused with a reason before anything is read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge._registry import MODELS, TOKENIZERS
from scmodelforge.cli.main import app
from tests.conftest import OPTIONAL_MODELS, make_adata

#: Settings of tokenizers that have more than one way to give a model something.
VARIANTS = {
    "continuous_projection, auto_bins": {"strategy": "continuous_projection", "embedding": "auto_bins"},
    "continuous_projection, attention_bias": {
        "strategy": "continuous_projection",
        "embedding": "attention_bias",
        "value_transform": "counts",
        "clip": 30.0,
    },
    "gene_embedding": {"strategy": "gene_embedding", "normalize": "l2"},
    "gene_embedding, binned": {"strategy": "gene_embedding", "base": "binned_expression", "missing": "drop"},
    "gene_embedding, counts": {
        "strategy": "gene_embedding",
        "base": {"strategy": "continuous_projection", "embedding": "attention_bias", "value_transform": "counts"},
    },
    "gene_embedding, continuous": {
        "strategy": "gene_embedding",
        "base": {"strategy": "continuous_projection", "embedding": "auto_bins"},
        "trainable": True,
        "missing": "zero",
    },
}
#: Pairs that cannot work, and words of the reason.
REFUSED = {
    **{
        (strategy, "autoregressive_transformer"): "needs bin_ids of each gene"
        for strategy in ("rank_value", "continuous_projection", "continuous_projection, auto_bins", "gene_embedding")
    },
    ("gene_embedding, continuous", "autoregressive_transformer"): "needs bin_ids of each gene",
    ("gene_embedding, counts", "autoregressive_transformer"): "needs bin_ids of each gene",
    ("continuous_projection, attention_bias", "autoregressive_transformer"): "needs bin_ids of each gene",
    ("continuous_projection, attention_bias", "gene_pooling"): "has no attention that takes a bias",
    ("gene_embedding, counts", "gene_pooling"): "has no attention that takes a bias",
    **{
        (strategy, "transcriptformer"): "asks for counts, but tokenizer"
        for strategy in ("rank_value", "binned_expression", "gene_embedding", "gene_embedding, binned")
    },
    **{
        (strategy, "transcriptformer"): "reads values in one way only; set it to 'attention_bias'"
        for strategy in (
            "continuous_projection",
            "continuous_projection, auto_bins",
            "gene_embedding, continuous",
        )
    },
    ("gene_embedding, counts", "scdiva"): "has no attention that takes a bias",
    ("continuous_projection, attention_bias", "scdiva"): "has no attention that takes a bias",
    ("continuous_projection, auto_bins", "scdiva"): "but ScDiVa has no GeneExpressionEmbedding",
    **{
        (strategy, "scdiva"): "brings gene vectors but ScDiVa has no GeneExpressionEmbedding to put them into"
        for strategy in (
            "gene_embedding",
            "gene_embedding, binned",
            "gene_embedding, continuous",
        )
    },
}
#: What can be trained on more than its architecture's default.
TASKS = {
    "values": {"pretraining_task": "masked_value_prediction", "masking": {"mode": "value", "mask_ratio": 0.4}},
    "spans": {"masking": {"mode": "span", "mask_ratio": 0.4, "span_length": 3.0}},
    "generated": {"pretraining_task": "generative_value_prediction", "second_pass_weight": 1.0, "pooling": "cls"},
    "cells": {"ecs_weight": 10.0, "cce_weight": 1.0, "dab_weight": 1.0, "cls_weight": 1.0},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    make_adata(40, 30).write_h5ad(path)
    return path


def names(registry) -> list[str]:
    """Return the parts of the package itself, not those that other tests register or that need an optional package."""
    found = [name for name in registry.names() if name not in OPTIONAL_MODELS]
    return [name for name in found if registry.get(name).__module__.startswith("scmodelforge.")]


def variants() -> dict[str, dict]:
    return {name: {"strategy": name} for name in names(TOKENIZERS)} | VARIANTS


def train(tokenizer: dict, model: dict, data: Path, tmp_path: Path):
    if tokenizer["strategy"] == "gene_embedding":
        vectors = np.random.default_rng(0).normal(size=(26, 5))
        np.savez(data.with_name("vectors.npz"), genes=make_adata(4, 30).var_names[4:].to_numpy(str), vectors=vectors)
        tokenizer = {**tokenizer, "path": str(data.with_name("vectors.npz"))}
    config = {
        "data": {
            "paths": [str(data)],
            "gene_vocab": "from_data",
            "label_column": "cell_type",
            "batch_column": "batch",
            "num_workers": 0,
        },
        "tokenizer": {"max_genes": 16, **tokenizer},
        "model": {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "max_seq_len": 32, "pooling": "mean", **model},
        "training": {
            "batch_size": 8,
            "max_epochs": 1,
            "steps_per_epoch": 2,
            "precision": "32-true",
            "log_every_n_steps": 1,
        },
        "output": {"run_dir": str(tmp_path / "run"), "tensorboard": False},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    return CliRunner().invoke(app, ["train", "--config", str(path)])


def check_two_steps(result, run: Path) -> None:
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = {record["step"]: record["train/loss"] for record in records if "train/loss" in record}
    assert list(losses) == [1, 2]
    assert np.isfinite(list(losses.values())).all()
    assert any("val/loss" in record for record in records)


@pytest.mark.parametrize("architecture", names(MODELS))
@pytest.mark.parametrize("variant", list(variants()))
def test_trains_two_steps_or_is_refused(variant, architecture, data, tmp_path):
    result = train(variants()[variant], {"architecture": architecture}, data, tmp_path)
    reason = REFUSED.get((variant, architecture))
    if reason is None:
        check_two_steps(result, tmp_path / "run")
        return
    assert result.exit_code == 2
    assert reason in " ".join(result.output.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("strategy", ["rank_value", "binned_expression", "continuous_projection"])
@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("transformer_encoder", "values"),
        ("transformer_encoder", "spans"),
        ("masked_autoencoder", "spans"),
        ("scgpt", "values"),
        ("scgpt", "spans"),
        ("scgpt", "generated"),
        ("scgpt", "cells"),
    ],
)
def test_trains_two_steps_with_other_ways_of_hiding(strategy, architecture, task, data, tmp_path):
    model = {key: value for key, value in TASKS[task].items() if key != "masking"}
    tokenizer = {"strategy": strategy, "masking": TASKS[task].get("masking", {})}
    result = train(tokenizer, {"architecture": architecture, **model}, data, tmp_path)
    check_two_steps(result, tmp_path / "run")
