"""Attention, its masks and the blocks around it."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch import nn

from scmodelforge.models import init_weights
from scmodelforge.models.components import (
    KeyValueCache,
    MultiHeadAttention,
    TransformerStack,
    generate_causal_mask,
    get_activation,
)
from scmodelforge.models.components.attention import merge_masks, prefix_mask

INF = float("inf")


def by_hand(attention: MultiHeadAttention, states: torch.Tensor, blocked: torch.Tensor) -> torch.Tensor:
    """Attention written out, head by head; blocked has shape (S, S)."""
    width = states.shape[-1] // attention.num_heads
    heads = []
    for h in range(attention.num_heads):
        part = slice(h * width, (h + 1) * width)
        q, k, v = (layer(states)[..., part] for layer in (attention.q, attention.k, attention.v))
        scores = (q @ k.transpose(-1, -2) / math.sqrt(width)).masked_fill(blocked, -INF)
        heads.append(scores.softmax(-1) @ v)
    return attention.o(torch.cat(heads, -1))


class TestGenerateCausalMask:
    def test_documented_example(self):
        assert generate_causal_mask(5).tolist() == [[0.0] * (i + 1) + [-INF] * (4 - i) for i in range(5)]

    def test_parameters(self):
        parameters = inspect.signature(generate_causal_mask).parameters
        assert list(parameters) == ["seq_len", "device"]
        assert parameters["device"].default is None

    def test_it_is_made_where_asked(self):
        assert generate_causal_mask(3, device=torch.device("meta")).device.type == "meta"

    def test_torchs_own_encoder_takes_it(self):
        """A change of a later token does not reach an earlier one."""
        encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), 1)
        states = torch.randn(2, 6, 8)
        before = encoder(states, mask=generate_causal_mask(6))
        states[:, 4] += 1
        after = encoder(states, mask=generate_causal_mask(6))
        assert torch.allclose(before[:, :4], after[:, :4], atol=1e-6)
        assert not torch.allclose(before[:, 4:], after[:, 4:], atol=1e-3)


class TestMultiHeadAttention:
    def test_it_equals_the_formula(self):
        attention, states = MultiHeadAttention(12, 3), torch.randn(2, 5, 12)
        nothing = torch.zeros(5, 5, dtype=torch.bool)
        assert torch.allclose(attention(states), by_hand(attention, states, nothing), atol=1e-6)

    def test_it_equals_the_formula_with_masks(self):
        attention, states = MultiHeadAttention(12, 3), torch.randn(2, 5, 12)
        seen = torch.tensor([[True, True, True, False, False]] * 2)
        blocked = torch.ones(5, 5, dtype=torch.bool).triu(1)
        blocked[:3, 3:] = True
        for mask in (generate_causal_mask(5), generate_causal_mask(5) == 0):
            found = attention(states, seen, mask)
            assert torch.allclose(found[:, :3], by_hand(attention, states, blocked)[:, :3], atol=1e-6)
            assert found.isfinite().all()

    def test_causal_masks_work_in_bf16(self):
        attention, states = MultiHeadAttention(12, 3), torch.randn(2, 5, 12)
        exact = attention(states, mask=generate_causal_mask(5))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.allclose(attention(states, mask=generate_causal_mask(5)).float(), exact, atol=5e-2)

    def test_causal_masks_work_with_weights_in_bf16(self):
        attention, states = MultiHeadAttention(12, 3), torch.randn(2, 5, 12)
        exact = attention(states, mask=generate_causal_mask(5))
        found = attention.bfloat16()(states.bfloat16(), mask=generate_causal_mask(5))
        assert torch.allclose(found.float(), exact, atol=5e-2)

    def test_heads_must_share_the_width(self):
        with pytest.raises(ValueError, match=r"hidden_dim \(10\) is not divisible by model.num_heads \(4\)"):
            MultiHeadAttention(10, 4)


class TestPrefixMask:
    def test_without_a_prefix_it_is_causal(self):
        mask = prefix_mask(4, None)
        assert mask.dtype == torch.bool
        assert mask.tolist() == [[[[key <= query for key in range(4)] for query in range(4)]]]
        assert torch.equal(mask[0, 0], generate_causal_mask(4) == 0)

    @pytest.mark.parametrize("lengths", [[0, 1, 2], [3, 5, 9]])
    def test_a_query_sees_the_prefix_and_what_came_before(self, lengths):
        mask = prefix_mask(5, torch.tensor(lengths))
        assert mask.shape == (3, 1, 5, 5)
        for cell, length in enumerate(lengths):
            for query in range(5):
                for key in range(5):
                    assert mask[cell, 0, query, key].item() == (key <= query or key < length)

    def test_it_is_made_where_asked(self):
        assert prefix_mask(3, None, torch.device("meta")).device.type == "meta"

    def test_attention_takes_it(self):
        attention, states = MultiHeadAttention(12, 3), torch.randn(2, 5, 12)
        found = attention(states, mask=prefix_mask(5, torch.tensor([0, 3])))
        causal = torch.ones(5, 5, dtype=torch.bool).triu(1)
        prefixed = causal.clone()
        prefixed[:, :3] = False
        assert torch.allclose(found[0], by_hand(attention, states, causal)[0], atol=1e-6)
        assert torch.allclose(found[1], by_hand(attention, states, prefixed)[1], atol=1e-6)


class TestKeyValueCache:
    def test_it_gives_back_all_that_was_put_in(self):
        cache = KeyValueCache(6)
        keys, values = torch.randn(2, 3, 6, 4), torch.randn(2, 3, 6, 4)
        for start, end in ((0, 3), (3, 4), (4, 6)):
            found = cache.extend(keys[:, :, start:end], values[:, :, start:end])
            assert torch.equal(found[0], keys[:, :, :end])
            assert torch.equal(found[1], values[:, :, :end])

    def test_it_keeps_the_type(self):
        found = KeyValueCache(2).extend(torch.zeros(1, 1, 1, 4).bfloat16(), torch.zeros(1, 1, 1, 4).bfloat16())
        assert {tensor.dtype for tensor in found} == {torch.bfloat16}

    def test_attention_token_by_token_is_attention_at_once(self):
        attention, states = MultiHeadAttention(12, 3), torch.randn(2, 5, 12)
        expected = attention(states, mask=prefix_mask(5, torch.tensor([3, 3])))
        cache = KeyValueCache(5)
        with torch.no_grad():
            parts = [attention(states[:, start:end], cache=cache) for start, end in ((0, 3), (3, 4), (4, 5))]
        assert torch.allclose(torch.cat(parts, dim=1), expected, atol=1e-6)

    def test_a_mask_is_over_all_tokens_so_far(self):
        """A token of the first part that is hidden in the second has no effect there."""
        attention, states = MultiHeadAttention(12, 3), torch.randn(1, 4, 12)
        seen = torch.tensor([True, False, True, True])[None, None, None]
        other = states.clone()
        other[:, 1] += 1
        results = []
        for given in (states, other):
            cache = KeyValueCache(4)
            with torch.no_grad():
                attention(given[:, :3], cache=cache)
                results.append(attention(given[:, 3:], mask=seen, cache=cache))
        assert torch.equal(*results)

    def test_layers_have_their_own(self):
        stack, states = TransformerStack(8, 3, 2, dropout=0.0), torch.randn(2, 5, 8)
        expected = stack(states, None, prefix_mask(5, torch.tensor([2, 2])))
        caches = [KeyValueCache(5) for _ in stack.layers]
        with torch.no_grad():
            parts = [stack(states[:, start:end], caches=caches) for start, end in ((0, 2), (2, 3), (3, 4), (4, 5))]
        assert torch.allclose(torch.cat(parts, dim=1), expected, atol=1e-6)


class TestMergeMasks:
    def test_nothing_stays_nothing(self):
        assert merge_masks(None, None) is None

    def test_a_cell_of_padding_sees_everything(self):
        merged = merge_masks(torch.tensor([[True, False], [False, False]]), None)
        assert merged[:, 0, 0].tolist() == [[True, False], [True, True]]

    @pytest.mark.parametrize("as_bool", [True, False])
    def test_with_a_mask_of_pairs_no_query_is_left_with_nothing(self, as_bool):
        causal = generate_causal_mask(3)
        seen = torch.tensor([[False, True, True], [False, False, False]])
        merged = merge_masks(seen, causal == 0 if as_bool else causal)
        allowed = merged if as_bool else merged == 0
        assert allowed[0, 0].tolist() == [[True, False, False], [False, True, False], [False, True, True]]
        assert allowed[1, 0].tolist() == torch.eye(3, dtype=torch.bool).tolist()


class TestTransformerStack:
    def test_a_causal_mask_hides_the_future(self):
        stack, states = TransformerStack(8, 2, 2, dropout=0.0), torch.randn(2, 6, 8)
        mask = torch.ones(2, 6)
        before = stack(states, mask, mask=generate_causal_mask(6))
        states[:, 4] += torch.randn(8)
        after = stack(states, mask, mask=generate_causal_mask(6))
        assert torch.equal(before[:, :4], after[:, :4])
        assert not torch.allclose(before[:, 4:], after[:, 4:], atol=1e-3)

    def test_the_stream_is_normalised_last(self):
        stack = TransformerStack(8, 2, 2, dropout=0.0)
        stack.apply(init_weights)
        out = stack(10 * torch.randn(2, 6, 8))
        assert torch.allclose(out.mean(-1), torch.zeros(2, 6), atol=1e-5)
        assert torch.allclose(out.std(-1, unbiased=False), torch.ones(2, 6), atol=1e-4)

    def test_branches_are_added_to_the_stream(self):
        """With branches that give nothing the stream passes unchanged: pre-norm."""
        stack, states = TransformerStack(8, 3, 2, dropout=0.0), torch.randn(2, 6, 8)
        for block in stack.layers:
            for last in (block.attention.o, block.ffn.down):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
        assert torch.equal(stack(states), stack.final_norm(states))

    @pytest.mark.parametrize("silent", ["attention.o", "ffn.down"])
    def test_dropout_acts_on_each_branch(self, silent):
        stack, states = TransformerStack(8, 1, 2, dropout=0.5), torch.randn(2, 6, 8)
        last = stack.layers[0].get_submodule(silent)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        assert not torch.equal(stack(states), stack(states))
        stack.eval()
        assert torch.equal(stack(states), stack(states))


class TestGetActivation:
    def test_names(self):
        x = torch.linspace(-2, 2, 9)
        for name, function in {
            "gelu": nn.functional.gelu,
            "relu": torch.relu,
            "silu": nn.functional.silu,
            "swish": nn.functional.silu,
        }.items():
            assert torch.equal(get_activation(name)(x), function(x))

    def test_an_unknown_name_lists_those_there_are(self):
        with pytest.raises(ValueError, match=r"unknown model.activation 'tanh'. Choose one of gelu, relu, silu, swish"):
            get_activation("tanh")
