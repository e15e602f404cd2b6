"""A run of ``fine_tuned`` from YAML: labels are learned, head and embeddings are evaluated, any model is a backbone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from scmodelforge._registry import MODELS
from scmodelforge.cli.main import app
from scmodelforge.config.load import load_config
from scmodelforge.hub import load_bundle
from scmodelforge.workflows.label_predictions import label_head
from tests.conftest import make_adata
from tests.test_life_cycle import invoke
from tests.test_matrix import names

RUN = """
data:
  paths: [{data}]
  gene_vocab: from_data
  label_column: cell_type
  split: {{by: donor_id, validation_fraction: 0.3}}
  num_workers: 0
tokenizer: {{strategy: binned_expression, max_genes: 32}}
model:
  architecture: fine_tuned
  backbone:
    {{architecture: transformer_encoder, hidden_dim: 16, num_layers: 2, num_heads: 2, max_seq_len: 32, pooling: mean}}
  head: {{pooling: embedding, hidden_layers: 1, dropout: 0.0}}
training:
  batch_size: 16
  max_epochs: 12
  optimizer: {{lr: 3.0e-3, layer_decay: 0.8}}
  ema: {{decay: 0.8}}
  precision: 32-true
  accelerator: cpu
  log_every_n_steps: 1
eval: {{benchmarks: [cell_type_annotation], every_n_epochs: 12, baselines: [random]}}
output: {{run_dir: {run}, tensorboard: false}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with cells and a finished run on them."""
    folder = tmp_path_factory.mktemp("fine_tuned")
    make_adata(160, 30).write_h5ad(folder / "cells.h5ad")
    (folder / "run.yaml").write_text(RUN.format(data=folder / "cells.h5ad", run=folder / "run"))
    invoke("train", "--config", folder / "run.yaml")
    return folder


def test_the_head_names_the_types_it_learned(folder):
    bundle = load_bundle(folder / "run" / "model")
    assert bundle.labels["categories"] == ["type0", "type1", "type2"]
    head = label_head(bundle.model, bundle.model_config, bundle.labels)
    adata = ad.read_h5ad(folder / "cells.h5ad")
    rows = [bundle.tokenizer.tokenize(row, list(adata.var_names)) for row in adata.X.toarray()]
    pad = torch.nn.utils.rnn.pad_sequence
    batch = {
        name: pad([torch.as_tensor(row[name]) for row in rows], batch_first=True)
        for name in ("input_ids", "attention_mask", "values")
    }
    with torch.no_grad():
        found = head.predictions(head.encode(**batch).numpy())
    truth = adata.obs["cell_type"].to_numpy(str)
    most_frequent = adata.obs["cell_type"].value_counts(normalize=True).max()
    assert (found.names[found.probabilities.argmax(axis=1)] == truth).mean() > most_frequent + 0.2


def test_head_and_embeddings_are_evaluated(folder):
    records = [json.loads(line) for line in (folder / "run" / "results.jsonl").read_text().splitlines()]
    found = {record["metric"]: record["value"] for record in records if record["representation"] == "model"}
    assert found["accuracy_head"] > 0.5  # of three types
    assert found["accuracy_linear_probe"] > 0.5  # of its embeddings


def test_the_loss_of_cells_is_what_is_logged(folder):
    records = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    trained = [record for record in records if "train/annotation" in record]
    assert trained
    assert all(record["train/annotation"] == record["train/loss"] for record in trained)
    assert trained[-1]["train/loss"] < 0.5 * trained[0]["train/loss"]
    resolved = yaml.safe_load((folder / "run" / "config.yaml").read_text())["model"]
    assert resolved["num_cell_types"] == 3
    assert "hidden_dim" not in resolved


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [name for name in names(MODELS) if name != "fine_tuned"])
@pytest.mark.parametrize("pooling", ["embedding", "first"])
def test_every_architecture_can_be_the_backbone(backbone, pooling, tmp_path):
    make_adata(40, 30).write_h5ad(tmp_path / "cells.h5ad")
    config = yaml.safe_load(RUN.format(data=tmp_path / "cells.h5ad", run=tmp_path / "run"))
    config["model"] |= {
        "backbone": {**config["model"]["backbone"], "architecture": backbone},
        "head": {"pooling": pooling},
    }
    if backbone == "transcriptformer":
        config["tokenizer"] = {"strategy": "continuous_projection", "embedding": "attention_bias", "max_genes": 32}
        config["tokenizer"] |= {"value_transform": "counts"}
    config["training"] |= {"max_epochs": 1, "steps_per_epoch": 2}
    config["eval"]["benchmarks"] = []
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(app, ["train", "--config", str(tmp_path / "run.yaml")])
    if pooling == "first" and backbone in ("gene_pooling", "scdiva", "transcriptformer"):
        assert result.exit_code == 2
        assert "model.head.pooling is 'first'" in result.stderr
        assert not (tmp_path / "run").exists()
        return
    assert result.exit_code == 0, result.output
    again = CliRunner().invoke(
        app, ["embed", *map(str, (tmp_path / "cells.h5ad", tmp_path / "out.h5ad")), "--model", str(tmp_path / "run")]
    )
    assert again.exit_code == 0, again.output
    assert np.isfinite(ad.read_h5ad(tmp_path / "out.h5ad").obsm["X_scmodelforge"]).all()


def test_the_settings_in_the_documents_are_valid(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "models.md").read_text()
    (text,) = (block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "fine_tuned" in block)
    (tmp_path / "run.yaml").write_text(text)
    config = load_config(tmp_path / "run.yaml")
    assert config.model.head.pooling == "first"
    fields = type(config.model.head).model_fields
    assert all(f"`{name}" in page for name in fields)
