"""Means over labelled positions."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from scipy.stats import poisson
from torch import nn

from scmodelforge._errors import DataError
from scmodelforge.models.components import (
    MaskedGenePredictionHead,
    gathered_cross_entropy,
    losses,
    masked_cross_entropy,
    masked_squared_error,
    zero_truncated_poisson_loss,
)


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


class TestInParts:
    """Twelve labelled rows of nine classes."""

    @pytest.fixture
    def case(self):
        torch.manual_seed(0)
        labels = torch.randint(0, 9, (3, 6))
        labels[:, ::3] = -100
        return MaskedGenePredictionHead(4, 9), torch.randn(3, 6, 4, requires_grad=True), labels

    @pytest.mark.parametrize("rows", [1, 5, 6, 11])
    @pytest.mark.parametrize("restricts", [True, False])
    def test_loss_and_gradients_are_those_of_one_part(self, case, monkeypatch, rows, restricts):
        head, states, labels = case
        bonus = torch.randn(12, 9)
        restrict = (lambda logits, numbers: logits + bonus[numbers]) if restricts else None
        twin, same = copy.deepcopy(head), states.detach().clone().requires_grad_()
        whole = gathered_cross_entropy(states, labels, head, restrict=restrict)
        monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", 9 * rows + 8)
        parts = gathered_cross_entropy(same, labels, twin, restrict=restrict)
        assert torch.allclose(whole, parts, atol=1e-6)
        whole.backward()
        parts.backward()
        assert states.grad.abs().sum() > 0
        assert torch.allclose(states.grad, same.grad, atol=1e-6)
        for a, b in zip(head.parameters(), twin.parameters(), strict=True):
            assert torch.allclose(a.grad, b.grad, atol=1e-6)

    @pytest.mark.parametrize("rows", [1, 5, 11])
    def test_no_more_rows_than_allowed_are_scored_at_once(self, case, monkeypatch, rows):
        head, states, labels = case
        monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", 9 * rows)
        seen = []
        head.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
        gathered_cross_entropy(states, labels, head).backward()
        assert max(seen) == rows
        assert sum(seen) == 2 * 12  # once more on the way back

    @pytest.mark.parametrize("is_frozen", [True, False])
    def test_a_bare_last_layer_is_fused_with_the_loss(self, case, monkeypatch, is_frozen):
        head, states, labels = case
        head.decoder.requires_grad_(not is_frozen)
        expected = gathered_cross_entropy(states, labels, head)
        wanted = torch.autograd.grad(expected, [states, head.dense.weight])
        monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", 9)
        calls = []
        real = torch.nn.functional.linear_cross_entropy
        monkeypatch.setattr(
            torch.nn.functional, "linear_cross_entropy", lambda *args, **more: calls.append(1) or real(*args, **more)
        )
        found = gathered_cross_entropy(states, labels, head)
        assert calls == [1]
        assert torch.allclose(found, expected, atol=1e-6)
        for a, b in zip(torch.autograd.grad(found, [states, head.dense.weight]), wanted, strict=True):
            assert torch.allclose(a, b, atol=1e-6)

    def test_an_adapter_in_the_place_of_the_last_layer_takes_part(self, case, monkeypatch):
        head, states, labels = case

        class Adapted(nn.Module):
            def __init__(self, base):
                super().__init__()
                self.base, self.weight, self.bias = base, base.weight, base.bias

            def forward(self, inputs):
                return self.base(inputs) + inputs[..., :1] * torch.arange(9)

        plain = gathered_cross_entropy(states, labels, head)
        head.decoder = Adapted(head.decoder)
        expected = gathered_cross_entropy(states, labels, head)
        assert not torch.allclose(plain, expected, atol=1e-3)
        monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", 9)
        assert torch.allclose(gathered_cross_entropy(states, labels, head), expected, atol=1e-6)

    def test_under_autocast_the_rows_are_scored_in_its_precision(self, case, monkeypatch):
        head, states, labels = case
        monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", 9)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = gathered_cross_entropy(states, labels, head)
        exact = gathered_cross_entropy(states, labels, head)
        assert loss.dtype == torch.float32
        assert loss.item() != exact.item()
        assert loss.item() == pytest.approx(exact.item(), abs=5e-2)

    def test_logits_are_not_kept_for_the_way_back(self, case, monkeypatch):
        head, states, labels = case
        monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", 9 * 4)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
            gathered_cross_entropy(states, labels, head)
        assert not [shape for shape in kept if len(shape) == 2 and shape[-1] == 9 and shape[0] > 1]

    def test_few_rows_are_scored_once(self, case, monkeypatch):
        head, states, labels = case
        monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", 9 * 12)
        seen = []
        head.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
        gathered_cross_entropy(states, labels, head).backward()
        assert seen == [12]

    def test_a_vocabulary_larger_than_allowed_is_scored_row_by_row(self, case, monkeypatch):
        head, states, labels = case
        expected = gathered_cross_entropy(states, labels, head)
        monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", 3)
        assert torch.allclose(gathered_cross_entropy(states, labels, head), expected, atol=1e-6)

    def test_without_labels_the_graph_is_kept(self, case, monkeypatch):
        head, states, labels = case
        monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", 9)
        loss = gathered_cross_entropy(states, torch.full_like(labels, -100), head)
        loss.backward()
        assert loss.item() == 0.0
        assert all((p.grad == 0).all() for p in head.parameters())

    def test_the_way_back_draws_the_same_dropout(self, case, monkeypatch):
        """Two draws would make another gradient than that of the loss: here that of the sum of the weights kept."""
        _, states, labels = case
        monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", 5)
        masks = []
        dropout = nn.Dropout(0.5)
        dropout.register_forward_hook(lambda module, inputs, output: masks.append(output != 0))
        gathered_cross_entropy(states, labels, nn.Sequential(dropout, nn.Linear(4, 9))).backward()
        assert len(masks) == 6
        assert {tuple(m.flatten().tolist()) for m in masks[:3]} == {tuple(m.flatten().tolist()) for m in masks[3:]}


class TestRestrict:
    def test_it_gets_the_numbers_of_the_rows(self, labels):
        head, states, seen = nn.Linear(4, 9), torch.randn(2, 3, 4), []

        def restrict(logits, numbers):
            seen.append(numbers.tolist())
            return logits.masked_fill(torch.arange(9) == 1, -float("inf"))

        found = gathered_cross_entropy(states, labels, head, restrict=restrict)
        rows = head(states)[labels != -100].masked_fill(torch.arange(9) == 1, -float("inf"))
        assert torch.allclose(found, nn.functional.cross_entropy(rows, labels[labels != -100]), atol=1e-6)
        assert seen == [[0, 1, 2]]


class TestMaskedSquaredError:
    def test_it_is_torchs_mean_over_the_positions(self):
        predictions, targets, where = torch.randn(2, 5), torch.randn(2, 5), torch.rand(2, 5) < 0.5
        expected = nn.functional.mse_loss(predictions[where], targets[where])
        assert torch.allclose(masked_squared_error(predictions, targets, where), expected, atol=1e-6)

    def test_other_positions_have_no_effect(self):
        where = torch.tensor([[True, False, True]])
        predictions = torch.tensor([[1.0, float("nan"), 3.0]], requires_grad=True)
        loss = masked_squared_error(predictions, torch.tensor([[0.0, float("inf"), 1.0]]), where)
        assert loss.item() == (1 + 4) / 2
        loss.backward()
        assert predictions.grad.tolist() == [[1.0, 0.0, 2.0]]

    def test_without_positions_it_is_zero(self):
        predictions = torch.randn(2, 5, requires_grad=True)
        loss = masked_squared_error(predictions, torch.randn(2, 5), torch.zeros(2, 5, dtype=torch.bool))
        assert loss.item() == 0.0
        loss.backward()
        assert (predictions.grad == 0).all()

    def test_half_precision_is_summed_in_single(self):
        predictions, targets, where = torch.randn(40, 50).bfloat16(), torch.randn(40, 50), torch.ones(40, 50) > 0
        loss = masked_squared_error(predictions, targets, where)
        assert loss.dtype == torch.float32
        expected = (predictions.double() - targets.double()).square().mean()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)

    def test_double_precision_is_kept(self):
        where = torch.ones(2, 5, dtype=torch.bool)
        assert masked_squared_error(torch.randn(2, 5).double(), torch.randn(2, 5), where).dtype == torch.float64


class TestZeroTruncatedPoisson:
    @pytest.mark.parametrize("rate", [1e-4, 0.1, 0.5, 1.0, 5.0, 40.0])
    def test_probabilities_of_all_counts_sum_to_one(self, rate):
        counts = torch.arange(1, 200, dtype=torch.float64)
        log_rate = torch.tensor(math.log(rate), dtype=torch.float64)
        each = [loss_of(log_rate[None], count[None]) for count in counts]
        assert sum(math.exp(-loss) for loss in each) == pytest.approx(1, abs=1e-12)

    @pytest.mark.parametrize("rate", [1e-6, 0.0099, 0.0101, 0.1, 1.0, 30.0])
    @pytest.mark.parametrize("count", [1, 2, 7, 30])
    def test_equals_poisson_given_that_it_is_not_zero(self, rate, count):
        expected = -(poisson.logpmf(count, rate) - math.log(-math.expm1(-rate)))
        found = loss_of(torch.tensor([math.log(rate)], dtype=torch.float64), torch.tensor([float(count)]))
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-10)

    def test_normaliser_is_the_exact_one(self):
        rates = [0.1, 0.5, 1.0, 5.0]
        # With c = 1 the loss is the normaliser less the logarithm of the rate.
        found = [loss_of(torch.tensor([math.log(rate)]), torch.tensor([1.0])) + math.log(rate) for rate in rates]
        assert found == pytest.approx([-2.25, -0.43, 0.54, 4.99], abs=5e-3)

    def test_tiny_and_large_rates_are_finite_in_single_precision_with_gradients(self):
        log_rates = torch.tensor([[-200.0, -90.0, -20.0, 0.0, 10.0]], requires_grad=True)
        counts = torch.tensor([[1.0, 2.0, 3.0, 1.0, 9.0]])
        loss = zero_truncated_poisson_loss(log_rates, counts, torch.ones(1, 5, dtype=torch.bool))
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(log_rates.grad).all()
        # The mean given c > 0, mu / (1 - exp(-mu)), less the count; 1 less the count for a rate of nothing.
        expected = [1 - 1, 1 - 2, 1 - 3, 1 / (1 - math.exp(-1)) - 1, math.exp(10) - 9]
        assert (5 * log_rates.grad[0]).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)

    def test_gradients_are_those_of_the_loss(self):
        log_rates = torch.tensor([[-9.0, -4.7, -4.5, 0.3, 2.0]], dtype=torch.float64, requires_grad=True)
        counts, where = torch.tensor([[1.0, 2.0, 1.0, 5.0, 3.0]]), torch.tensor([[True, True, True, True, False]])
        assert torch.autograd.gradcheck(lambda rates: zero_truncated_poisson_loss(rates, counts, where), log_rates)

    def test_without_targets_it_is_zero_with_a_graph(self):
        log_rates = torch.zeros(1, 2, requires_grad=True)
        loss = zero_truncated_poisson_loss(log_rates, torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool))
        loss.backward()
        assert (loss.item(), log_rates.grad.tolist()) == (0.0, [[0.0, 0.0]])

    @pytest.mark.parametrize("wrong", [0.0, -1.0, 1.5, float("nan")])
    def test_what_is_no_count_above_zero_is_refused(self, wrong):
        with pytest.raises(DataError, match=r"a target is \S+, but a zero-truncated Poisson loss takes counts of 1, 2"):
            loss_of(torch.zeros(1), torch.tensor([wrong]))


def loss_of(log_rate: torch.Tensor, count: torch.Tensor) -> float:
    return zero_truncated_poisson_loss(log_rate, count, torch.ones(len(count), dtype=torch.bool)).item()
