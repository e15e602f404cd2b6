"""Without padding layers compute the same for less."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scmodelforge.models.components import TransformerStack, generate_causal_mask
from scmodelforge.models.components import packing as packing_module
from scmodelforge.models.components import transformer as module
from scmodelforge.models.components.attention import prefix_mask
from scmodelforge.models.components.blocks import Trace
from scmodelforge.models.components.packing import Packing, packed_kernel


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
    (out * torch.linspace(-1, 1, out.shape[-1]).to(out)).sum().backward()
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
        monkeypatch.setattr(module.Packing, "of", lambda *_, **__: None)
        for here, there in zip(packed, outputs(found, states, is_real, **given_masks), strict=True):
            torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)

    @settings(deadline=None, max_examples=25)
    @given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4))
    def test_wherever_the_padding_is(self, holes):
        is_real = torch.tensor(holes).long()
        found, states = stack(rotary=True).eval(), torch.randn(len(holes), 6, 8)
        packed = found(states, is_real)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module.Packing, "of", lambda *_, **__: None)
            padded = found(states, is_real)
        torch.testing.assert_close(packed[is_real == 1], padded[is_real == 1], rtol=1e-5, atol=1e-5)

    def test_in_hidden_states_on_the_way(self, monkeypatch):
        found, is_real, states = stack().eval(), mask_of([5, 2], 5), torch.randn(2, 5, 8)
        traces = [Trace(), Trace()]
        found(states, is_real, trace=traces[0])
        monkeypatch.setattr(module.Packing, "of", lambda *_, **__: None)
        found(states, is_real, trace=traces[1])
        for packed, padded in zip(*(trace.hidden_states for trace in traces), strict=True):
            assert packed.shape == padded.shape
            torch.testing.assert_close(packed[is_real == 1], padded[is_real == 1], rtol=1e-5, atol=1e-5)


class TestAllCellsAtOnce:
    """The kernel itself is CUDA's: here its documented meaning stands in for it, and the last test wants a GPU."""

    @pytest.fixture(autouse=True)
    def kernel(self, monkeypatch):
        varlen = pytest.importorskip("torch.nn.attention.varlen")

        def reference(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, **_):
            assert query.shape == key.shape == value.shape
            assert all(each.is_contiguous() for each in (query, key, value))
            lengths = cu_seq_q.diff()
            assert cu_seq_q.dtype == torch.int32
            assert torch.equal(cu_seq_q, cu_seq_k)
            assert max_q == max_k == int(lengths.max())
            lengths = lengths.tolist()
            parts = zip(*(each.transpose(0, 1).split(lengths, 1) for each in (query, key, value)), strict=True)
            mixed = [F.scaled_dot_product_attention(q[None], k[None], v[None], scale=scale)[0] for q, k, v in parts]
            return torch.cat(mixed, dim=1).transpose(0, 1)

        monkeypatch.setattr(varlen, "varlen_attn", reference)
        monkeypatch.setattr(packing_module, "_has_kernel", lambda _: True)

    @pytest.mark.parametrize("options", [{}, {"rotary": True}, {"norm_placement": "post"}], ids=str)
    @pytest.mark.parametrize("has_bias", [False, True])
    def test_is_equal_to_padded_in_values_and_gradients(self, monkeypatch, options, has_bias):
        found, is_real = stack(**options), mask_of([6, 2, 0, 3], 7)
        states, bias = torch.randn(4, 7, 8), torch.randn(4, 7) if has_bias else None
        monkeypatch.setattr(module, "packed_kernel", lambda *_, **__: "all cells")
        packed = outputs(found, states, is_real, key_bias=bias)
        monkeypatch.setattr(module, "packed_kernel", lambda *_, **__: None)
        for here, there in zip(packed, outputs(found, states, is_real, key_bias=bias), strict=True):
            torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)

    def test_is_chosen_where_the_kernel_takes_what_there_is(self):
        half = torch.empty(2, 3, 8, device="meta", dtype=torch.bfloat16)
        fits = {"is_plain": True, "dropout": 0.0, "head_dim": 64}
        assert packed_kernel(half, **fits) == "all cells"
        for other in ({"is_plain": False}, {"dropout": 0.1}, {"head_dim": 264}):
            assert packed_kernel(half, **fits | other) is None
        assert packed_kernel(half.float(), **fits) is None
        assert packed_kernel(torch.empty(2, 3, 8), **fits) == "cell by cell"

    def test_the_bias_widens_the_heads(self):
        attention = stack().layers[0].attention
        assert (attention.width_of_keys(has_bias=False), attention.width_of_keys(has_bias=True)) == (4, 8)


def test_torch_takes_what_it_is_called_with():
    pytest.importorskip("torch.nn.attention.varlen")
    heads = torch.empty(4, 30, 32, device="meta", dtype=torch.bfloat16)
    empty = torch.empty(0)
    packing = Packing(empty, empty, lengths=(10, 20), shape=(2, 25), kernel="all cells")
    assert packing.attend(heads, heads, heads, dropout_p=0.0, scale=0.1).shape == heads.shape


@pytest.mark.gpu
def test_on_a_gpu_packed_is_padded(monkeypatch):
    found = TransformerStack(128, 2, 4, dropout=0.0).cuda().bfloat16()
    states, is_real = torch.randn(4, 70, 128, device="cuda").bfloat16(), mask_of([60, 21, 1, 33], 70).cuda()
    chosen = []
    real = module.Packing.of
    monkeypatch.setattr(module.Packing, "of", lambda *a, **k: chosen.append(k["kernel"]) or real(*a, **k))
    packed = outputs(found, states, is_real)
    assert chosen == ["all cells"]
    monkeypatch.setattr(module, "packed_kernel", lambda *_, **__: None)
    for here, there in zip(packed, outputs(found, states, is_real), strict=True):
        torch.testing.assert_close(here, there, rtol=2e-2, atol=2e-2 * float(there.abs().max()))


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
