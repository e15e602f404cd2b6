"""Without padding layers compute the same for less."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scmodelforge.models.components import TransformerStack, generate_causal_mask
from scmodelforge.models.components import transformer as module
from scmodelforge.models.components.attention import prefix_mask
from scmodelforge.models.components.blocks import Trace
from scmodelforge.models.components.packing import Packing


def stack(**options) -> TransformerStack:
    torch.manual_seed(0)
    found = TransformerStack(8, 2, 2, **{"dropout": 0.0, **options})
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=0.5)
    return found


def mask_of(lengths: list[int], width: int) -> torch.Tensor:
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


def outputs(found: TransformerStack, states: torch.Tensor, is_real: torch.Tensor, **options) -> list[torch.Tensor]:
    """Return hidden states of real tokens, and the gradients of all weights and of the input."""
    found.zero_grad()
    states = states.clone().requires_grad_()
    out = found(states, is_real, **options)[is_real == 1]
    (out * torch.linspace(-1, 1, out.shape[-1])).sum().backward()
    return [out.detach(), states.grad[is_real == 1], *(parameter.grad.clone() for parameter in found.parameters())]


class TestEqualToPadded:
    @pytest.mark.parametrize(
        "options", [{}, {"rotary": True}, {"norm_placement": "post"}, {"checkpointing": True}], ids=str
    )
    @pytest.mark.parametrize("pairs", ["all", "causal", "prefix", "added", "keys", "heads"])
    @pytest.mark.parametrize("has_bias", [False, True])
    def test_in_values_and_gradients(self, monkeypatch, options, pairs, has_bias):
        found, is_real = stack(**options), mask_of([6, 2, 0, 3], 7)
        states, bias = torch.randn(4, 7, 8), torch.randn(4, 7) if has_bias else None
        masks = {
            "all": None,
            "causal": prefix_mask(7, None),
            "prefix": prefix_mask(7, torch.tensor([1, 2, 0, 3])),
            "added": generate_causal_mask(7),
            "keys": torch.tensor([True, True, False, True, False, True, True]).expand(4, 1, 1, 7),
            "heads": torch.stack([torch.ones(7, 7).tril(), torch.ones(7, 7)]).bool(),
        }
        given_masks = {"mask": masks[pairs], "key_bias": bias}
        packed = outputs(found, states, is_real, **given_masks)
        assert Packing.of(is_real) is not None
        monkeypatch.setattr(module.Packing, "of", lambda *_: None)
        for here, there in zip(packed, outputs(found, states, is_real, **given_masks), strict=True):
            torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)

    @settings(deadline=None, max_examples=25)
    @given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4))
    def test_wherever_the_padding_is(self, holes):
        is_real = torch.tensor(holes).long()
        found, states = stack(rotary=True).eval(), torch.randn(len(holes), 6, 8)
        packed = found(states, is_real)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module.Packing, "of", lambda *_: None)
            padded = found(states, is_real)
        torch.testing.assert_close(packed[is_real == 1], padded[is_real == 1], rtol=1e-5, atol=1e-5)

    def test_in_hidden_states_on_the_way(self, monkeypatch):
        found, is_real, states = stack().eval(), mask_of([5, 2], 5), torch.randn(2, 5, 8)
        traces = [Trace(), Trace()]
        found(states, is_real, trace=traces[0])
        monkeypatch.setattr(module.Packing, "of", lambda *_: None)
        found(states, is_real, trace=traces[1])
        for packed, padded in zip(*(trace.hidden_states for trace in traces), strict=True):
            assert packed.shape == padded.shape
            torch.testing.assert_close(packed[is_real == 1], padded[is_real == 1], rtol=1e-5, atol=1e-5)


class TestWork:
    def test_is_done_for_real_tokens_only(self):
        found, rows = stack(), []
        found.layers[1].ffn.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape))
        found(torch.randn(3, 9, 8), mask_of([4, 9, 1], 9))
        assert rows == [(14, 8)]

    def test_is_padded_where_there_is_next_to_no_padding_or_nothing_real(self):
        assert Packing.of(None) is None
        assert Packing.of(torch.ones(4, 5)) is None
        assert Packing.of(mask_of([16, 16, 16, 15], 16)) is None
        assert Packing.of(torch.zeros(2, 3)) is None

    def test_dropout_does_not_depend_on_the_padding(self):
        found, states = stack(dropout=0.5, attention_dropout=0.5).train(), torch.randn(2, 5, 8)
        draws = []
        for width in (9, 14):
            longer = torch.cat([states, torch.randn(2, width - 5, 8)], dim=1)
            torch.manual_seed(3)
            draws.append(found(longer, mask_of([5, 3], width))[:, :3])
        assert torch.equal(*draws)


def test_what_stands_at_padding_is_0_and_has_no_effect():
    found, is_real, states = stack(), mask_of([5, 2], 6), torch.randn(2, 6, 8)
    out = found(states, is_real)
    assert (out[is_real == 0] == 0).all()
    states[is_real == 0] = float("nan")
    assert torch.equal(found(states, is_real), out)
