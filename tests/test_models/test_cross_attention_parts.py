"""Attention to other tokens, attention that fades with distance, and pooling by attention."""

from __future__ import annotations

import pytest
import torch

from scmodelforge.models.components.alibi import alibi_bias, alibi_slopes
from scmodelforge.models.components.attention import MultiHeadAttention
from scmodelforge.models.components.pooling import AttentionPooling
from scmodelforge.models.components.transformer import TransformerBlock

_BLOCK = {"ffn_dim": 16, "dropout": 0.0, "attention_dropout": 0.0, "activation": "relu", "layer_norm_eps": 1e-5}


def states(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestContext:
    @pytest.mark.parametrize("rotary", [False, True])
    def test_of_the_tokens_themselves_it_is_self_attention(self, rotary):
        attention, tokens = MultiHeadAttention(8, 2, rotary=rotary).eval(), states(3, 5, 8)
        context = attention.keys_values(tokens, attention.positions(tokens, None))
        torch.testing.assert_close(attention(tokens, context=context), attention(tokens))

    def test_of_other_tokens_it_is_softmax_over_these(self):
        attention, tokens, others = MultiHeadAttention(8, 2).eval(), states(3, 5, 8), states(3, 4, 8, seed=1)
        maps: list[torch.Tensor] = []
        found = attention(tokens, context=attention.keys_values(others), maps=maps)
        query, key, value = (
            part(each).unflatten(-1, (2, 4)).transpose(1, 2)
            for part, each in ((attention.q, tokens), (attention.k, others), (attention.v, others))
        )
        weights = (query @ key.mT / 2).softmax(dim=-1)  # (3, 2, 5, 4)
        torch.testing.assert_close(found, attention.o((weights @ value).transpose(1, 2).flatten(2)))
        torch.testing.assert_close(maps[0], weights)

    def test_one_query_may_see_several_tokens(self):
        attention, tokens, others = MultiHeadAttention(8, 2).eval(), states(3, 1, 8), states(3, 4, 8, seed=1)
        alone = attention(tokens)
        assert (attention(tokens, context=attention.keys_values(others)) - alone).abs().max() > 1e-3

    def test_a_block_passes_it_on(self):
        block = TransformerBlock(8, 2, norm_placement="post", **_BLOCK).eval()
        tokens, others = states(3, 5, 8), states(3, 4, 8, seed=1)
        context = block.attention.keys_values(others)
        expected = block.after(tokens, tokens, block.attention(tokens, context=context))
        torch.testing.assert_close(block(tokens, context=context), expected)


class TestAlibi:
    def test_slopes_fall_by_the_same_factor_to_a_256th(self):
        slopes = alibi_slopes(8)
        torch.testing.assert_close(slopes, torch.tensor([1 / 2**k for k in range(1, 9)]))
        assert alibi_slopes(3)[-1] == 2**-8

    def test_tokens_without_a_position_are_free(self):
        bias = alibi_bias(2, 3, free_queries=2, free_keys=1)
        assert bias.shape == (1, 2, 5, 4)
        assert not bias[0, :, :2].any()
        assert not bias[0, :, :, 0].any()
        distance = torch.tensor([[0.0, 1, 2], [1, 0, 1], [2, 1, 0]])
        for head, slope in enumerate((2**-4, 2**-8)):
            torch.testing.assert_close(bias[0, head, 2:, 1:], -slope * distance)

    def test_it_is_what_is_added_to_scores(self):
        attention, tokens = MultiHeadAttention(8, 2).eval(), states(3, 5, 8)
        plain: list[torch.Tensor] = []
        faded: list[torch.Tensor] = []
        attention(tokens, maps=plain)
        attention(tokens, mask=alibi_bias(2, 5), maps=faded)
        expected = (plain[0].log() + alibi_bias(2, 5)).softmax(dim=-1)
        torch.testing.assert_close(faded[0], expected)


class TestAttentionPooling:
    def test_it_is_a_mean_with_weights_that_sum_to_one(self):
        pool, tokens = AttentionPooling(8), states(3, 5, 8)
        weights = pool.score(tokens)[..., 0].softmax(dim=-1)
        torch.testing.assert_close(pool(tokens), (weights[..., None] * tokens).sum(dim=1))
        torch.testing.assert_close(pool(tokens[:, :1].expand(-1, 5, -1)), tokens[:, 0])

    def test_padding_does_not_count_whatever_stands_there(self):
        pool, tokens = AttentionPooling(8), states(2, 5, 8)
        mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
        found = pool(tokens.masked_fill(mask[..., None] == 0, 1e4), mask)
        torch.testing.assert_close(found[0], pool(tokens[:1, :3])[0])
        assert not found[1].any()
