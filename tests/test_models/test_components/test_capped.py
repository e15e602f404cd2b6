"""Attention whose scores are written down: the formula, and where it must be that of the fused kernels."""

from __future__ import annotations

import math

import pytest
import torch

from scmodelforge.models.components import TransformerStack, generate_causal_mask
from scmodelforge.models.components.blocks import Trace
from scmodelforge.models.components.capped import capped_attention
from scmodelforge.models.components.values import biased_attention


def parts():
    drawn = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 6, 4, generator=drawn) * 4 for _ in range(3))
    return query, key, value, torch.rand(2, 6, generator=drawn) * 3


def stack(**options) -> TransformerStack:
    torch.manual_seed(0)
    return TransformerStack(8, 2, 2, dropout=0.0, **options).eval()


@pytest.mark.parametrize("bias_itself", [True, False])
@pytest.mark.parametrize("cap", [None, 3.0])
def test_is_that_of_the_formula_written_out(bias_itself, cap):
    query, key, value, bias = parts()
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    found = capped_attention(
        query, key, value, attn_mask=mask, scale=0.5, key_bias=bias, soft_cap=cap, bias_itself=bias_itself
    )
    for cell in range(2):
        for head in range(3):
            for i in range(6):
                scores = []
                for j in range(i + 1):
                    score = float(query[cell, head, i] @ key[cell, head, j]) / 2
                    score += float(bias[cell, j]) if j < i or bias_itself else 0.0
                    scores.append(score if cap is None else cap * math.tanh(score / cap))
                shares = torch.tensor(scores).softmax(0)
                assert torch.allclose(found[cell, head, i], shares @ value[cell, head, : i + 1], atol=1e-4)


def test_without_a_cap_it_is_what_fused_kernels_give():
    query, key, value, bias = parts()
    found = capped_attention(query, key, value, scale=0.5, key_bias=bias)
    assert torch.allclose(found, biased_attention(query, key, value, bias), atol=1e-4)
    added = generate_causal_mask(6)
    assert torch.allclose(
        capped_attention(query, key, value, attn_mask=added, scale=0.5),
        torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True),
        atol=1e-4,
    )


@pytest.mark.parametrize("options", [{"soft_cap": 2.0}, {}], ids=str)
def test_packed_cells_get_what_padded_ones_get(options):
    layers, states = stack(**options), torch.randn(2, 7, 8)
    mask, bias = torch.tensor([[1] * 7, [1, 1, 1, 0, 0, 0, 0]]), torch.rand(2, 7) * 3
    causal = generate_causal_mask(7)
    whole = layers(states, mask, causal, key_bias=bias, bias_itself=False)  # packed: more than a sixteenth is padding
    for cell, length in enumerate((7, 3)):
        alone = layers(
            states[cell : cell + 1, :length], None, causal[:length, :length], key_bias=bias[cell : cell + 1, :length],
            bias_itself=False,
        )  # fmt: skip
        assert torch.allclose(whole[cell, :length], alone[0], atol=1e-5)


def test_maps_are_the_capped_ones():
    layers, states, trace = stack(soft_cap=1e-3), torch.randn(1, 5, 8), Trace(maps=True)
    layers(states, trace=trace)
    assert torch.allclose(trace.attentions[0], torch.full((1, 2, 5, 5), 0.2), atol=1e-3)


def test_checkpoints_change_no_gradient():
    states, bias = torch.randn(2, 5, 8), torch.rand(2, 5)
    found = []
    for checkpointing in (False, True):
        layers = stack(soft_cap=5.0, norm_placement="stream", bias=False, checkpointing=checkpointing).train()
        layers(states, key_bias=bias, bias_itself=False).square().sum().backward()
        found.append([p.grad for p in layers.parameters()])
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*found, strict=True))


def test_a_branch_is_added_to_the_normalised_stream():
    layers, states, trace = stack(norm_placement="stream", bias=False), torch.randn(2, 5, 8) * 9, Trace()
    found = layers(states, trace=trace)
    block = layers.layers[0]
    normed = block.attention_norm(states)
    middle = block.ffn_norm(normed + block.attention(normed))
    assert torch.allclose(trace.hidden_states[1], middle + block.ffn(middle), atol=1e-5)
    assert torch.equal(trace.hidden_states[2], found)
    assert not [name for name, _ in layers.named_parameters() if name.endswith("bias") and "norm" not in name]
