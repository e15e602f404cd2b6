"""A user's own model in one file: trained through ``plugins``, resumed, moved, embedded with."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge._registry import MODELS
from scmodelforge.cli.main import app
from tests.conftest import make_adata
from tests.test_life_cycle import settings

# As a newcomer writes it: no terms, no objective, no settings of its own, a loss that is NaN without targets.
CODE = """
import torch
from torch import nn
from scmodelforge.models import ModelOutput, register_model
from scmodelforge.models.components import GeneExpressionEmbedding, MaskedGenePredictionHead, mean_pool

@register_model("bag_of_genes")
class BagOfGenes(nn.Module):
    def __init__(self, vocab_size, hidden_dim, max_seq_len):
        super().__init__()
        self.vocab_size = vocab_size
        self.embedding = GeneExpressionEmbedding(vocab_size, hidden_dim, max_seq_len=max_seq_len)
        self.head = MaskedGenePredictionHead(hidden_dim, vocab_size)

    @classmethod
    def from_config(cls, config):
        return cls(config.vocab_size, config.hidden_dim, config.max_seq_len)

    def forward(self, input_ids, attention_mask, values=None, labels=None, **kwargs):
        hidden = self.embedding(input_ids, values=values)
        logits = self.head(hidden)
        loss = None
        if labels is not None:
            loss = nn.CrossEntropyLoss(ignore_index=-100)(logits.view(-1, self.vocab_size), labels.view(-1))
        return ModelOutput(loss=loss, logits=logits, embeddings=mean_pool(hidden, attention_mask))

    def encode(self, input_ids, attention_mask, values=None, **kwargs):
        return mean_pool(self.embedding(input_ids, values=values), attention_mask)
"""


def forget() -> None:
    """Do as a process that never saw the plugin."""
    MODELS._parts.pop("bag_of_genes", None)
    for module in [module for module in sys.modules if module.startswith("scmodelforge_plugin_bag")]:
        del sys.modules[module]


@pytest.fixture
def run(tmp_path) -> Path:
    forget()
    (tmp_path / "bag.py").write_text(CODE)
    make_adata(60, 30).write_h5ad(tmp_path / "cells.h5ad")
    config = settings(tmp_path / "cells.h5ad", tmp_path / "run", training__max_epochs=1)
    config["plugins"] = ["bag.py"]
    config["model"] = {"architecture": "bag_of_genes", "hidden_dim": 8, "max_seq_len": 24}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(app, ["train", "--config", str(tmp_path / "run.yaml")])
    assert result.exit_code == 0, result.output
    yield tmp_path / "run"
    forget()


def test_a_moved_model_folder_needs_trust_and_then_embeds(run, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.move(run / "model", moved)
    (tmp_path / "bag.py").unlink()
    forget()
    words = ["embed", str(tmp_path / "cells.h5ad"), str(tmp_path / "out.h5ad"), "--model", str(moved)]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 2
    assert "--trust-plugins" in refused.stderr
    done = CliRunner().invoke(app, [*words, "--trust-plugins"])
    assert done.exit_code == 0, done.output
    assert np.isfinite(ad.read_h5ad(tmp_path / "out.h5ad").obsm["X_scmodelforge"]).all()


def test_a_run_of_it_resumes_and_evaluates(run):
    forget()
    for words in (["train", "--resume", str(run)], ["evaluate", str(run)]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
