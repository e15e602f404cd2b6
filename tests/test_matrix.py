"""Every tokenizer with every model: trains two steps, or is refused with a reason before anything is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge._registry import MODELS, TOKENIZERS
from scmodelforge.cli.main import app
from tests.conftest import make_adata

#: Pairs that cannot work, and words of the reason.
REFUSED = {("rank_value", "autoregressive_transformer"): "needs bin_ids of each gene"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    make_adata(40, 30).write_h5ad(path)
    return path


def names(registry) -> list[str]:
    """Return the parts of the package itself, not those that other tests register."""
    return [name for name in registry.names() if registry.get(name).__module__.startswith("scmodelforge.")]


@pytest.mark.parametrize("architecture", names(MODELS))
@pytest.mark.parametrize("strategy", names(TOKENIZERS))
def test_trains_two_steps_or_is_refused(strategy, architecture, data, tmp_path):
    config = {
        "data": {"paths": [str(data)], "gene_vocab": "from_data", "num_workers": 0},
        "tokenizer": {"strategy": strategy, "max_genes": 16},
        "model": {
            "architecture": architecture,
            "hidden_dim": 16,
            "num_layers": 1,
            "num_heads": 2,
            "max_seq_len": 32,
            "pooling": "mean",
        },
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
    result = CliRunner().invoke(app, ["train", "--config", str(path)])
    reason = REFUSED.get((strategy, architecture))
    if reason is not None:
        assert result.exit_code == 2
        assert reason in " ".join(result.output.split())
        assert not (tmp_path / "run").exists()
        return
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "train/loss" in record] == [1, 2]
    assert any("val/loss" in record for record in records)
