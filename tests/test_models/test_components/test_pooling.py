"""From tokens to cells."""

from __future__ import annotations

import pytest
import torch

from scmodelforge.models.components import cls_pool, get_pooling, mean_pool


class TestClsPool:
    def test_it_takes_the_first_token(self):
        states = torch.randn(8, 6, 4)
        assert torch.equal(cls_pool(states), states[:, 0])
        assert torch.equal(cls_pool(states, torch.ones(8, 6)), states[:, 0])


class TestMeanPool:
    def test_it_averages_real_tokens(self):
        states, mask = torch.randn(8, 16, 4), torch.ones(8, 16)
        mask[:, 10:] = 0
        assert torch.allclose(mean_pool(states, mask), states[:, :10].mean(1), atol=1e-6)

    def test_without_a_mask_it_averages_all(self):
        states = torch.randn(8, 16, 4)
        assert torch.allclose(mean_pool(states), states.mean(1), atol=1e-6)

    @pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32, torch.bfloat16])
    def test_masks_of_any_type_are_equal(self, dtype):
        states, mask = torch.randn(2, 5, 4), torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]])
        assert torch.equal(mean_pool(states, mask.to(dtype)), mean_pool(states, mask))

    def test_a_cell_of_padding_gets_zeros(self):
        mask = torch.tensor([[0, 0, 0], [1, 0, 0]])
        pooled = mean_pool(torch.full((2, 3, 4), 5.0), mask)
        assert pooled.tolist() == [[0.0] * 4, [5.0] * 4]

    def test_what_stands_at_padding_has_no_effect(self):
        states = torch.ones(1, 2, 3)
        states[0, 1] = float("nan")
        assert mean_pool(states, torch.tensor([[1, 0]])).tolist() == [[1.0, 1.0, 1.0]]

    def test_the_mean_is_taken_in_single_precision(self):
        """The only rounding to bf16 is that of the result."""
        states = torch.randn(16, 300, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
        pooled = mean_pool(states, torch.ones(16, 300))
        assert torch.equal(pooled, states.double().mean(1).bfloat16())


class TestGetPooling:
    @pytest.mark.parametrize(("name", "pool"), [("cls", cls_pool), ("mean", mean_pool)])
    def test_names(self, name, pool):
        states = torch.randn(3, 5, 8)
        mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
        assert torch.equal(get_pooling(name)(states, mask), pool(states, mask))
        assert torch.equal(get_pooling(name)(states), pool(states))

    @pytest.mark.parametrize("name", ["cls", "mean"])
    def test_a_cell_without_tokens_gets_zeros_and_passes_nothing_back(self, name):
        states = torch.randn(2, 5, 8, requires_grad=True)
        pooled = get_pooling(name)(states, torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]))
        assert (pooled[1] == 0).all()
        pooled.sum().backward()
        assert (states.grad[1] == 0).all()
        assert states.grad[0].abs().sum() > 0

    def test_an_unknown_name_lists_those_there_are(self):
        with pytest.raises(ValueError, match=r"unknown model.pooling 'max'; choose one of cls, mean"):
            get_pooling("max")
