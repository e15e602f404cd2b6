"""A model that learns from labels of cells gets them, their number and their names from the data."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from typer.testing import CliRunner

from scmodelforge._errors import ConfigError
from scmodelforge._registry import MODELS
from scmodelforge.cli.main import app
from scmodelforge.config.schema import ModelConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models import ModelOutput, register_model
from scmodelforge.workflows.cell_labels import labels_of, set_label_sizes
from tests.conftest import make_adata
from tests.test_life_cycle import invoke, losses, settings

SEEN: list[dict[str, torch.Tensor]] = []


class LearningConfig(ModelConfig):
    num_cell_types: int | None = None
    num_batches: int | None = None

    @property
    def counted_terms(self) -> dict[str, str]:
        return {"annotation": "cell_types", "mixing": "batch_labels", "size": "cells"}


class Learning(nn.Module):
    """Tells cell types and batches from a mean of embeddings."""

    config_class: ClassVar[type] = LearningConfig

    def __init__(self, config: LearningConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_dim)
        self.types = nn.Linear(config.hidden_dim, config.num_cell_types)
        self.batches = nn.Linear(config.hidden_dim, config.num_batches)

    @classmethod
    def from_config(cls, config):
        return cls(config)

    def encode(self, input_ids, attention_mask, values=None, **kwargs):
        shown = self.embedding(input_ids) * attention_mask.unsqueeze(-1)
        return shown.sum(dim=1) / attention_mask.sum(dim=1, keepdim=True)

    def forward(self, input_ids, attention_mask, labels=None, *, cell_types, batch_labels, **kwargs):
        SEEN.append({"cell_types": cell_types, "batch_labels": batch_labels})
        cell = self.encode(input_ids, attention_mask)
        loss = nn.functional.cross_entropy
        terms = {
            "annotation": loss(self.types(cell), cell_types, ignore_index=IGNORE_INDEX),
            "mixing": loss(self.batches(cell), batch_labels, ignore_index=IGNORE_INDEX),
            "size": cell.square().mean(),
        }
        return ModelOutput(loss=sum(terms.values()), embeddings=cell, loss_terms=terms)


@pytest.fixture(autouse=True)
def model():
    register_model("learning")(Learning)
    SEEN.clear()
    yield
    MODELS._parts.pop("learning")


@pytest.fixture
def data(tmp_path):
    adata = make_adata(80, 30)
    adata.obs["cell_type"] = adata.obs["cell_type"].where(np.arange(80) % 5 > 0)  # donor d0 has none
    adata.obs["batch"] = [f"b{number % 3}" for number in range(80)]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def write(tmp_path, data, name="run", **changes):
    config = settings(data, tmp_path / name, training__max_epochs=2, eval__benchmarks=[], **changes)
    config["model"] = {"architecture": "learning", "hidden_dim": 8, "max_seq_len": 24}
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return tmp_path / f"{name}.yaml"


def test_a_run_fills_in_numbers_and_keeps_names(tmp_path, data):
    invoke("train", "--config", write(tmp_path, data))
    run = tmp_path / "run"
    resolved = yaml.safe_load((run / "config.yaml").read_text())["model"]
    assert (resolved["num_cell_types"], resolved["num_batches"]) == (3, 3)
    labels = json.loads((run / "model" / "labels.json").read_text())
    assert labels["categories"] == ["type0", "type1", "type2"]
    assert labels["batch_labels"] == {"column": "batch", "categories": ["b0", "b1", "b2"]}
    types = torch.cat([seen["cell_types"] for seen in SEEN])
    assert set(types.tolist()) == {0, 1, 2, IGNORE_INDEX}
    record = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert {"train/annotation", "train/mixing", "train/size"} <= set(record)
    before = losses(run)
    invoke("train", "--resume", run)
    assert losses(run) == before


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "took_part"), [("learning", True), ("transformer_encoder", False)])
def test_the_card_says_whether_labels_took_part(tmp_path, data, architecture, took_part):
    path = write(tmp_path, data)
    config = yaml.safe_load(path.read_text()) | {"eval": {"benchmarks": ["cell_type_annotation"]}}
    config["model"] |= {"architecture": architecture, "num_heads": 2}
    config["data"]["split"] = {"validation_fraction": 0.3}
    path.write_text(yaml.safe_dump(config))
    invoke("train", "--config", path)
    card = " ".join((tmp_path / "run" / "model" / "README.md").read_text().split())
    assert ("the labels of these cells took part in that choice" in card) is took_part
    assert ("their labels took no part in that choice" in card) is not took_part


def test_a_column_that_is_needed_and_not_named_is_refused(tmp_path, data):
    result = CliRunner().invoke(app, ["train", "--config", str(write(tmp_path, data, data__batch_column=None))])
    assert result.exit_code == 2
    assert "data.batch_column is not set" in result.stderr
    assert "(mixing); name the obs column" in result.stderr
    assert not (tmp_path / "run").exists()


def test_one_label_is_refused(tmp_path):
    adata = make_adata(80, 30)
    adata.obs["batch"] = "only"
    adata.write_h5ad(tmp_path / "cells.h5ad")
    result = CliRunner().invoke(app, ["train", "--config", str(write(tmp_path, tmp_path / "cells.h5ad"))])
    assert result.exit_code == 2
    assert "have 1 label(s) in obs column 'batch' (data.batch_column)" in result.stderr
    assert not (tmp_path / "run").exists()


class TestLabels:
    codes = np.array([2, -1, 0, 3, 2], dtype=np.int32)
    source = SimpleNamespace(obs=lambda column: (TestLabels.codes, ["a", "b", "c", "d"]))

    def test_categories_are_those_of_training_cells(self):
        labels = labels_of(self.source, "kind", np.array([0, 1, 2]))
        assert labels.categories == ["a", "c"]
        assert labels.codes.tolist() == [1, IGNORE_INDEX, 0, IGNORE_INDEX, 1]

    def test_another_number_in_the_settings_is_refused(self):
        labels = {"cell_types": labels_of(self.source, "kind", np.array([0, 2]))}
        with pytest.raises(ConfigError, match="is 5, but the training cells have 2 labels"):
            set_label_sizes(LearningConfig(num_cell_types=5), labels)
        config = LearningConfig(num_cell_types=2)
        set_label_sizes(config, labels)
        assert config.num_cell_types == 2
