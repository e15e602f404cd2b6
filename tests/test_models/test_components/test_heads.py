"""Prediction heads."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from scmodelforge.models.components import BinPredictionHead, ExpressionPredictionHead, MaskedGenePredictionHead

NEEDED = inspect.Parameter.empty


@pytest.mark.parametrize(
    ("head", "parameters"),
    [
        (MaskedGenePredictionHead, {"hidden_dim": NEEDED, "vocab_size": NEEDED, "layer_norm_eps": 1e-12}),
        (BinPredictionHead, {"hidden_dim": NEEDED, "n_bins": NEEDED, "layer_norm_eps": 1e-12}),
        (ExpressionPredictionHead, {"hidden_dim": NEEDED}),
    ],
)
def test_parameters_and_defaults(head, parameters):
    options = inspect.signature(head).parameters
    found = {name: p.default for name, p in options.items() if p.kind is p.POSITIONAL_OR_KEYWORD}
    assert list(found.items()) == list(parameters.items())


class TestMaskedGenePredictionHead:
    def test_documented_example(self):
        head = MaskedGenePredictionHead(hidden_dim=32, vocab_size=500)
        logits = head(torch.randn(4, 20, 32))
        assert logits.shape == (4, 20, 500)
        labels = torch.randint(0, 500, (4, 20))
        labels[labels < 250] = -100
        labels[0, 0] = 400
        loss = nn.CrossEntropyLoss(ignore_index=-100)(logits.view(-1, 500), labels.view(-1))
        assert loss.item() > 0

    def test_layers_are_those_documented(self):
        head = MaskedGenePredictionHead(8, 20, layer_norm_eps=1e-3)
        assert [type(m) for m in head.children()] == [nn.Linear, nn.GELU, nn.LayerNorm, nn.Linear]
        states = torch.randn(2, 3, 8)
        by_hand = nn.Sequential(*head.children())(states)
        assert torch.equal(head(states), by_hand)
        assert head.layer_norm.eps == 1e-3


class TestBinPredictionHead:
    def test_documented_example(self):
        logits = BinPredictionHead(hidden_dim=32, n_bins=51)(torch.randn(8, 20, 32))
        assert logits.shape == (8, 20, 51)
        assert nn.CrossEntropyLoss()(logits.view(-1, 51), torch.randint(0, 51, (8, 20)).view(-1)).item() > 0


class TestExpressionPredictionHead:
    def test_documented_example(self):
        predicted = ExpressionPredictionHead(hidden_dim=32)(torch.randn(16, 30, 32))
        assert predicted.shape == (16, 30)
        masked = torch.zeros(16, 30, dtype=torch.bool)
        masked[:, ::7] = True
        assert nn.functional.mse_loss(predicted[masked], torch.randn(16, 30)[masked]).item() > 0

    def test_layers_are_those_documented(self):
        head = ExpressionPredictionHead(8)
        assert [type(m) for m in head.children()] == [nn.Linear, nn.GELU, nn.Linear]
        states = torch.randn(2, 3, 8)
        assert torch.equal(head(states), nn.Sequential(*head.children())(states)[..., 0])
