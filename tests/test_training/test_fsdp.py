"""What is sharded, of every model; that it trains is tested with two processes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge._registry import MODELS
from scmodelforge.config.schema import FsdpConfig, TrainingConfig
from scmodelforge.models import TransformerEncoder
from scmodelforge.models.registry import get_model, list_models
from scmodelforge.training._fsdp import _has_stray_tensors, blocks_to_shard
from scmodelforge.training.setup import make_fabric
from tests.conftest import OPTIONAL_MODELS

SIZES = {"vocab_size": 30, "hidden_dim": 16, "num_layers": 2, "num_heads": 2, "max_seq_len": 32}


def made(name: str) -> nn.Module:
    config_class = MODELS.get(name).config_class
    labels = {key: 3 for key in ("num_cell_types", "num_batch_labels") if key in config_class.model_fields}
    return get_model(name, config_class(architecture=name, **SIZES, **labels))


@pytest.mark.parametrize("name", sorted(set(list_models()) - OPTIONAL_MODELS))
class TestAllModels:
    def test_the_blocks_are_found_and_are_most_of_what_repeats(self, name):
        blocks = blocks_to_shard(made(name))
        assert len(blocks) >= SIZES["num_layers"]
        assert all(list(block.parameters()) for block in blocks)

    def test_it_is_made_without_numbers(self, name):
        with torch.device("meta"):
            model = made(name)
        assert not _has_stray_tensors(model)
        assert any(parameter.is_meta for parameter in model.parameters())


class TestBlocks:
    def test_a_block_that_shares_weights_with_another_part_is_left_to_the_rest(self):
        model = TransformerEncoder(vocab_size=30, hidden_dim=16, num_layers=3, num_heads=2)
        first, second, third = model.encoder.layers
        model.extra = second.ffn
        assert blocks_to_shard(model) == [first, third]

    def test_a_list_of_heads_is_no_stack(self):
        model = nn.Module()
        model.heads = nn.ModuleList(nn.Linear(4, size) for size in (2, 3))
        assert blocks_to_shard(model) == []

    def test_a_model_may_name_them(self):
        model = nn.Module()
        model.heads = nn.ModuleList(nn.Linear(4, size) for size in (2, 3))
        model.blocks_to_shard = [model.heads[1]]
        assert blocks_to_shard(model) == [model.heads[1]]


class TestRefused:
    def test_more_devices_than_there_are(self):
        with pytest.raises(ConfigError, match=r"asks for 100000 processes on the CPU but this machine has \d+ cores"):
            make_fabric(TrainingConfig(accelerator="cpu", strategy="fsdp", devices=100_000))

    def test_apple(self, monkeypatch):
        monkeypatch.setattr("scmodelforge.training.setup.resolve_accelerator", lambda config: "mps")
        with pytest.raises(ConfigError, match=r"fsdp, which Apple's GPUs cannot do; use --set training\.strategy=auto"):
            make_fabric(TrainingConfig(strategy="fsdp"))

    def test_settings_of_sharding_say_that_they_need_it(self, tmp_path, caplog):
        from scmodelforge.config import load_config

        path = tmp_path / "run.yaml"
        path.write_text("data:\n  paths: [lung.h5ad]\ntraining:\n  fsdp:\n    cpu_offload: true\n")
        assert load_config(path).training.fsdp == FsdpConfig(cpu_offload=True)
        assert "training.fsdp.cpu_offload has no effect without training.strategy: fsdp" in caplog.text
