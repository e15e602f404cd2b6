"""Which genes are out once they were named."""

from __future__ import annotations

import pytest
import torch

from scmodelforge.models.components.repeats import exclude_named, exclude_named_everywhere, named_genes

INF = float("inf")


@pytest.fixture
def ids():
    return torch.tensor([[3, 8, 5, 9], [3, 7, 0, 0]])


class TestNamedGenes:
    def test_they_are_those_up_to_and_with_the_position(self, ids):
        rows = ids[[0, 0, 0, 1]]
        named = named_genes(rows, torch.tensor([0, 2, 3, 1]))
        assert named.tolist() == [[3, 0, 0, 0], [3, 8, 5, 0], [3, 8, 5, 9], [3, 7, 0, 0]]

    def test_the_tokens_handed_in_are_not_changed(self, ids):
        before = ids.clone()
        named_genes(ids, torch.tensor([0, 0]))
        assert torch.equal(ids, before)


class TestExcludeNamed:
    def test_named_genes_and_special_tokens_get_no_probability(self, ids):
        logits = torch.randn(2, 12)
        found = exclude_named(logits, ids)
        for row, out in enumerate(({0, 1, 2, 3, 8, 5, 9}, {0, 1, 2, 3, 7})):
            for gene in range(12):
                assert found[row, gene] == (-INF if gene in out else logits[row, gene])

    def test_the_score_of_a_label_is_kept(self, ids):
        logits = torch.randn(2, 12)
        free = exclude_named(logits, ids)
        held = exclude_named(logits, ids, torch.tensor([5, 10]))
        assert held[0, 5] == logits[0, 5]
        assert held[1, 10] == logits[1, 10]
        held[0, 5] = -INF
        assert torch.equal(held, free)

    def test_even_of_a_special_token(self, ids):
        logits = torch.randn(2, 12)
        held = exclude_named(logits, ids, torch.tensor([3, 0]))
        assert held[0, 3] == logits[0, 3]
        assert held[1, 0] == logits[1, 0]
        assert held[1, 3] == -INF

    def test_no_label_keeps_nothing(self, ids):
        logits = torch.randn(2, 12)
        assert torch.equal(exclude_named(logits, ids, torch.tensor([-100, -100])), exclude_named(logits, ids))

    def test_gradients_reach_what_is_left_only(self, ids):
        logits = torch.randn(2, 12, requires_grad=True)
        exclude_named(logits, ids, torch.tensor([8, -100])).log_softmax(-1)[:, 10].sum().backward()
        gradient = logits.grad
        assert gradient.isfinite().all()
        assert (gradient[0, [0, 1, 2, 3, 5, 9]] == 0).all()
        assert (gradient[0, [4, 6, 7, 8, 10, 11]] != 0).all()
        assert (gradient[1, [0, 1, 2, 3, 7]] == 0).all()

    def test_scores_handed_in_are_not_changed(self, ids):
        logits = torch.randn(2, 12)
        before = logits.clone()
        exclude_named(logits, ids, torch.tensor([5, -100]))
        assert torch.equal(logits, before)


class TestEverywhere:
    @pytest.mark.parametrize("labels", [None, torch.tensor([[8, -100, 9, 3], [7, 7, -100, 0]])])
    def test_it_is_the_same_at_each_position_alone(self, ids, labels):
        logits = torch.randn(2, 4, 12)
        found = exclude_named_everywhere(logits, ids, labels)
        for cell in range(2):
            for place in range(4):
                named = named_genes(ids[[cell]], torch.tensor([place]))
                label = None if labels is None else labels[cell, [place]]
                assert torch.equal(found[cell, place], exclude_named(logits[cell, [place]], named, label)[0])
