"""The loss whose target is every gene that is still to come."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from scmodelforge.models.components import MaskedGenePredictionHead, gathered_cross_entropy, losses
from scmodelforge.models.components.later_genes import later_genes
from scmodelforge.models.components.repeats import restriction


@pytest.fixture
def labels():
    """Of the second cell one position is not asked; the third has a single label, the last none."""
    return torch.tensor([[-100, 5, 8, 6, -100], [4, -100, 9, 7, 11], [-100, -100, -100, 10, -100], [-100] * 5])


def by_hand(logits: torch.Tensor, labels: torch.Tensor) -> float:
    found = []
    for row, line in zip(logits, labels.tolist(), strict=True):
        for place, label in enumerate(line):
            if label != -100:
                later = [other for other in line[place:] if other != -100]
                log_probabilities = row[place].double().log_softmax(dim=0)
                found.append(-sum(float(log_probabilities[gene]) / len(later) for gene in later))
    return sum(found) / len(found)


class TestLoss:
    def test_it_is_the_cross_entropy_with_even_shares_of_what_comes_later(self, labels):
        logits = 3 * torch.randn(4, 5, 12)
        loss = gathered_cross_entropy(logits, labels, nn.Identity(), measure=later_genes(labels))
        assert loss.item() == pytest.approx(by_hand(logits, labels), abs=1e-5)

    def test_of_the_last_gene_it_is_the_cross_entropy_with_its_label(self):
        labels, logits = torch.tensor([[-100, 7]]), torch.randn(1, 2, 9)
        loss = gathered_cross_entropy(logits, labels, nn.Identity(), measure=later_genes(labels))
        torch.testing.assert_close(loss, losses.masked_cross_entropy(logits, labels))

    def test_what_has_no_probability_is_no_target(self, labels):
        """A label that comes once more later was named by then; the loss stays finite and its mean is of the others."""
        labels = torch.tensor([[5, 8, 5, 6]])
        logits = torch.randn(1, 4, 12)
        logits[0, 1, 5] = -float("inf")
        loss = gathered_cross_entropy(logits, labels, nn.Identity(), measure=later_genes(labels))
        rows = [[5, 8, 5, 6], [8, 6], [5, 6], [6]]
        expected = [-logits[0, place].log_softmax(0)[genes].mean() for place, genes in enumerate(rows)]
        torch.testing.assert_close(loss, torch.stack(expected).mean())

    def test_scores_in_half_precision_are_summed_in_single_and_double_is_kept(self, labels):
        logits = torch.randn(4, 5, 12)
        for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
            loss = gathered_cross_entropy(logits.to(dtype), labels, nn.Identity(), measure=later_genes(labels))
            assert loss.dtype == expected
            assert loss.item() == pytest.approx(by_hand(logits.to(dtype), labels), abs=1e-5)

    def test_without_labels_it_is_zero_with_a_graph(self):
        states, head = torch.randn(2, 3, 4, requires_grad=True), nn.Linear(4, 9)
        labels = torch.full((2, 3), -100)
        loss = gathered_cross_entropy(states, labels, head, measure=later_genes(labels))
        loss.backward()
        assert loss.item() == 0.0
        assert (states.grad == 0).all()
        assert (head.weight.grad == 0).all()


class TestInParts:
    @pytest.fixture
    def case(self):
        """Return states of two cells of genes that come once, their next genes, and a head of 30 genes."""
        torch.manual_seed(0)
        ids = torch.stack([4 + torch.randperm(26)[:8] for _ in range(2)])
        labels = torch.cat([ids[:, 1:], torch.full((2, 1), -100)], dim=1)
        labels[1, :3] = -100
        return torch.randn(2, 8, 6), ids, labels, MaskedGenePredictionHead(6, 30)

    @pytest.mark.parametrize("rows", [1, 4, 100])
    @pytest.mark.parametrize("restricts", [True, False])
    def test_loss_and_gradients_are_those_of_all_logits(self, case, monkeypatch, rows, restricts):
        states, ids, labels, head = case
        restrict = restriction(ids, labels) if restricts else None
        found = []
        for limit in (30 * rows, 2**24):
            monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", limit)
            twin, own = copy.deepcopy(head), states.clone().requires_grad_()
            loss = gathered_cross_entropy(own, labels, twin, restrict=restrict, measure=later_genes(labels))
            loss.backward()
            found.append([loss, own.grad, *(p.grad for p in twin.parameters())])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert found[0][0] > 0.5

    def test_no_more_rows_than_allowed_are_scored_at_once(self, case, monkeypatch):
        states, ids, labels, head = case
        monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", 30 * 3)
        seen = []
        head.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
        gathered_cross_entropy(states, labels, head, restrict=restriction(ids, labels), measure=later_genes(labels))
        assert seen == [3, 3, 3, 2]
