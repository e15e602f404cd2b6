"""Learning rates by layer and by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge._registry import MODELS
from scmodelforge.config.schema import ModelConfig, OptimizerConfig
from scmodelforge.models.registry import get_model
from scmodelforge.training._depth import num_blocks, parameter_depths
from scmodelforge.training.optim import build_optimizer

from .parts import TwoTermModel

#: Blocks of each built-in model with two layers (the masked autoencoder has a decoder of four).
BLOCKS = {
    "autoregressive_transformer": 2,
    "fine_tuned": 2,
    "gene_pooling": 2,
    "masked_autoencoder": 6,
    "scdiva": 2,
    "scdiva_diffusion": 2,
    "scgpt": 2,
    "transcriptformer": 2,
    "transformer_encoder": 2,
}


def small(architecture: str) -> nn.Module:
    sizes = {"vocab_size": 20, "hidden_dim": 16, "num_layers": 2, "num_heads": 2, "max_seq_len": 32}
    return get_model(architecture, ModelConfig(architecture=architecture, **sizes))


def rates_of(model: nn.Module, **options) -> dict[str, float]:
    """Return the learning rate of each parameter, each of which must be in one group."""
    optimizer = build_optimizer(model, OptimizerConfig(lr=1.0, **options))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    listed = [(names[id(p)], group["lr"]) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(name for name, _ in listed) == sorted(names.values())
    return dict(listed)


@pytest.mark.parametrize("architecture", sorted(BLOCKS))
class TestLayerDecay:
    def test_embeddings_have_the_lowest_rate_and_heads_the_full_one(self, architecture):
        model = small(architecture)
        rates = rates_of(model, layer_decay=0.5)
        assert num_blocks(model) == BLOCKS[architecture]
        lowest = 0.5 ** (BLOCKS[architecture] + 1)
        assert min(rates.values()) == lowest
        assert max(rates.values()) == 1.0
        for name, rate in rates.items():
            if name.startswith(("embedding.", "encoder.gene_encoder.")):
                assert rate == lowest, name
            if "head" in name and name != "head.decoder.weight":
                assert rate == 1.0, name

    def test_rates_rise_by_the_factor_from_block_to_block(self, architecture):
        model = small(architecture)
        rates = rates_of(model, layer_decay=0.5)
        blocks = [
            {rates[f"{path}.{number}.{name}"] for name, _ in block.named_parameters()}
            for path, module in model.named_modules()
            if isinstance(module, nn.ModuleList)
            for number, block in enumerate(module)
        ]
        levels = [level for (level,) in blocks]  # one rate within a block
        assert levels == [0.5 ** (len(blocks) - number) for number in range(len(blocks))]

    def test_decay_of_weights_is_not_touched(self, architecture):
        model = small(architecture)
        decays = [
            {
                id(p): group["weight_decay"]
                for group in build_optimizer(model, OptimizerConfig(layer_decay=decay)).param_groups
                for p in group["params"]
            }
            for decay in (None, 0.7)
        ]
        assert decays[0] == decays[1]


def test_blocks_within_blocks_and_lists_of_unlike_parts_are_no_layers():
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            block = [nn.ModuleDict({"mixers": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])}) for _ in range(3)]
            self.stem = nn.Linear(2, 2)
            self.blocks = nn.ModuleList(block)
            self.heads = nn.ModuleList([nn.Linear(2, 3), nn.Linear(2, 5)])

    depths = parameter_depths(Nested())
    assert num_blocks(Nested()) == 3
    assert {name.split(".")[0]: depth for name, depth in depths.items()} == {"stem": 0, "blocks": 3, "heads": 4}
    assert [depths[f"blocks.{n}.mixers.1.bias"] for n in range(3)] == [1, 2, 3]


def test_layer_decay_of_a_model_without_blocks_is_refused():
    with pytest.raises(ConfigError, match=r"layer_decay is 0.5, but TwoTermModel has no list of blocks"):
        build_optimizer(TwoTermModel(), OptimizerConfig(layer_decay=0.5))


class TestGroups:
    def test_patterns_give_rates_and_the_first_that_fits_counts(self):
        groups = [{"parameters": "value.*", "lr": 0.25}, {"parameters": "[hv]*", "lr": 0.125}]
        rates = rates_of(TwoTermModel(), groups=groups)
        assert rates == {
            "embedding.weight": 1.0,
            "norm.weight": 1.0,
            "norm.bias": 1.0,
            "hidden.weight": 0.125,
            "hidden.bias": 0.125,
            "value.weight": 0.25,
            "value.bias": 0.25,
        }

    def test_a_rate_by_name_is_not_lowered_by_the_layers(self):
        rates = rates_of(small("scgpt"), layer_decay=0.5, groups=[{"parameters": "encoder.layers.0.*", "lr": 3.0}])
        assert {rate for name, rate in rates.items() if name.startswith("encoder.layers.0.")} == {3.0}
        assert rates["embedding.gene_embedding.weight"] == 0.125

    def test_a_decay_by_name_spares_norms_and_biases_too(self):
        config = OptimizerConfig(weight_decay=0.1, groups=[{"parameters": "*", "weight_decay": 0.3}])
        model = TwoTermModel()
        decays = {id(p): g["weight_decay"] for g in build_optimizer(model, config).param_groups for p in g["params"]}
        found = {name: decays[id(parameter)] for name, parameter in model.named_parameters()}
        assert {name for name, decay in found.items() if decay == 0.3} == {"hidden.weight", "value.weight"}
        assert set(found.values()) == {0.0, 0.3}

    def test_a_pattern_that_fits_nothing_is_refused_with_the_names_there_are(self):
        config = OptimizerConfig(groups=[{"parameters": "value*", "lr": 1e-3}, {"parameters": "heads*", "lr": 1e-3}])
        words = r"groups\[1\].parameters is 'heads\*', which fits no parameter of TwoTermModel; .*hidden\*, value\*"
        with pytest.raises(ConfigError, match=words):
            build_optimizer(TwoTermModel(), config)

    def test_a_group_that_changes_nothing_is_refused(self):
        with pytest.raises(ValueError, match=r"'head\*' has neither lr nor weight_decay"):
            OptimizerConfig(groups=[{"parameters": "head*"}])

    def test_steps_are_as_large_as_the_rates(self):
        """The first step of AdamW without decay is the learning rate, whatever the gradient."""
        model = TwoTermModel()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        config = OptimizerConfig(lr=1e-2, weight_decay=0.0, groups=[{"parameters": "value*", "lr": 1e-3}])
        optimizer = build_optimizer(model, config)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        for name, parameter in model.named_parameters():
            size = 1e-3 if name.startswith("value") else 1e-2
            torch.testing.assert_close(before[name] - parameter, torch.full_like(parameter, size), rtol=1e-3, atol=0)


def test_every_built_in_model_with_blocks_is_tested():
    built_in = {name for name in MODELS.names() if MODELS.get(name).__module__.startswith("scmodelforge.")}
    assert built_in - {"scvi"} == set(BLOCKS)
