"""Means over labelled positions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scmodelforge.models.components import gathered_cross_entropy, masked_cross_entropy


@pytest.fixture
def labels():
    return torch.tensor([[3, -100, 7], [-100, -100, 0]])


class TestMaskedCrossEntropy:
    def test_it_is_torchs_mean(self, labels):
        logits = torch.randn(2, 3, 9)
        expected = nn.functional.cross_entropy(logits.view(-1, 9), labels.view(-1), ignore_index=-100)
        assert torch.allclose(masked_cross_entropy(logits, labels), expected, atol=1e-6)

    def test_without_labels_it_is_zero(self, labels):
        logits = torch.randn(2, 3, 9, requires_grad=True)
        loss = masked_cross_entropy(logits, torch.full_like(labels, -100))
        assert loss.item() == 0.0
        loss.backward()
        assert (logits.grad == 0).all()

    def test_scores_in_half_precision_are_summed_in_single(self, labels):
        logits = torch.randn(2, 3, 9).bfloat16()
        loss = masked_cross_entropy(logits, labels)
        assert loss.dtype == torch.float32
        assert torch.equal(loss, masked_cross_entropy(logits.float(), labels))

    def test_double_precision_is_kept(self, labels):
        assert masked_cross_entropy(torch.randn(2, 3, 9).double(), labels).dtype == torch.float64


class TestGatheredCrossEntropy:
    def test_it_equals_the_loss_of_all_positions(self, labels):
        head, states = nn.Linear(4, 9), torch.randn(2, 3, 4)
        few = gathered_cross_entropy(states, labels, head)
        assert torch.allclose(few, masked_cross_entropy(head(states), labels), atol=1e-6)

    def test_without_labels_it_is_zero_with_a_graph_to_head_and_states(self, labels):
        head, states = nn.Linear(4, 9), torch.randn(2, 3, 4, requires_grad=True)
        loss = gathered_cross_entropy(states, torch.full_like(labels, -100), head)
        assert loss.item() == 0.0
        loss.backward()
        assert all((t.grad == 0).all() for t in (states, head.weight, head.bias))

    def test_a_wrapped_head_takes_part(self, labels):
        """What stands in for the head is called, not its weights."""
        states = torch.randn(2, 3, 4)
        head = nn.Linear(4, 9)
        doubled = nn.Sequential(head, nn.Linear(9, 9))
        assert torch.allclose(
            gathered_cross_entropy(states, labels, doubled), masked_cross_entropy(doubled(states), labels), atol=1e-6
        )
