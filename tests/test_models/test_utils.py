"""First weights and their number."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch import nn

from scmodelforge.config.schema import ModelConfig
from scmodelforge.models import count_parameters, init_weights
from scmodelforge.models._utils import required_vocab_size


class Documented(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(2000, 64)
        self.linear = nn.Linear(64, 64)
        self.layer_norm = nn.LayerNorm(64)


class TestInitWeights:
    def test_documented_example(self):
        model = Documented()
        model.layer_norm.weight.data.fill_(3.0)
        model.layer_norm.bias.data.fill_(3.0)
        model.apply(init_weights)
        assert model.embedding.weight.mean().abs() < 1e-3
        assert model.embedding.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert model.linear.bias.abs().max() == 0
        assert (model.layer_norm.weight == 1).all()
        assert (model.layer_norm.bias == 0).all()

    def test_linear_weights_are_xavier_uniform(self):
        linear = nn.Linear(100, 300)
        init_weights(linear)
        bound = math.sqrt(6 / 400)
        assert linear.weight.abs().max() <= bound
        assert linear.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)

    def test_the_padding_row_is_zero(self):
        embedding = nn.Embedding(20, 8, padding_idx=3)
        nn.init.ones_(embedding.weight)
        init_weights(embedding)
        assert (embedding.weight[3] == 0).all()
        assert (embedding.weight[:3] != 0).all()
        assert embedding.weight.requires_grad

    def test_subclasses_and_layers_without_biases_work(self):
        class OwnLinear(nn.Linear):
            pass

        own = OwnLinear(4, 4)
        nn.init.ones_(own.bias)
        for module in (own, nn.Linear(4, 4, bias=False), nn.LayerNorm(4, elementwise_affine=False)):
            init_weights(module)
        assert (own.bias == 0).all()

    def test_other_modules_are_left_alone(self):
        conv = nn.Conv1d(2, 2, 1)
        before = conv.weight.clone()
        init_weights(conv)
        assert torch.equal(conv.weight, before)


class TestCountParameters:
    def test_trained_ones_by_default(self):
        model = Documented()
        model.embedding.requires_grad_(False)
        assert count_parameters(model) == 64 * 64 + 64 + 2 * 64
        assert count_parameters(model, trainable_only=False) == 2000 * 64 + 64 * 64 + 64 + 2 * 64
        assert inspect.signature(count_parameters).parameters["trainable_only"].default is True

    def test_shared_weights_count_once(self):
        model = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        model[1].weight = model[0].weight
        assert count_parameters(model) == 16 + 4 + 4


class TestRequiredVocabSize:
    def test_it_is_returned(self):
        assert required_vocab_size(ModelConfig(vocab_size=50)) == 50

    def test_it_must_be_set(self):
        with pytest.raises(ValueError, match=r"ModelConfig\.vocab_size must be set before a model is made"):
            required_vocab_size(ModelConfig())
