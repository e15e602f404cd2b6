"""Blocks against those of torch and against formulas."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.models.components import (
    KeyValueCache,
    MaskedGenePredictionHead,
    TransformerStack,
    generate_causal_mask,
)
from scmodelforge.models.components.blocks import FeedForward, Trace, get_norm
from scmodelforge.models.components.losses import gathered_cross_entropy, masked_cross_entropy
from scmodelforge.models.components.rotary import RotaryEmbedding


def stack(**options) -> TransformerStack:
    torch.manual_seed(0)
    found = TransformerStack(8, 3, 2, **{"dropout": 0.0, "layer_norm_eps": 1e-5, **options})
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=0.5)
    return found


def copied(ours: TransformerStack, theirs: nn.TransformerEncoder) -> None:
    """Give torch's encoder the weights of ours."""
    with torch.no_grad():
        for own, other in zip(ours.layers, theirs.layers, strict=True):
            attention = own.attention
            other.self_attn.in_proj_weight.copy_(
                torch.cat([part.weight for part in (attention.q, attention.k, attention.v)])
            )
            other.self_attn.in_proj_bias.copy_(
                torch.cat([part.bias for part in (attention.q, attention.k, attention.v)])
            )
            for here, there in (
                (attention.o, other.self_attn.out_proj),
                (own.ffn.up, other.linear1),
                (own.ffn.down, other.linear2),
                (own.attention_norm, other.norm1),
                (own.ffn_norm, other.norm2),
            ):
                there.load_state_dict(here.state_dict())


class TestPlacementOfNorms:
    @pytest.mark.parametrize("activation", ["gelu", "relu"])
    @pytest.mark.parametrize("placement", ["pre", "post"])
    def test_gives_the_blocks_of_torch(self, placement, activation):
        ours = stack(norm_placement=placement, activation=activation)
        layer = nn.TransformerEncoderLayer(8, 2, 32, 0.0, activation, batch_first=True, norm_first=placement == "pre")
        theirs = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        copied(ours, theirs)
        states, is_real = torch.randn(2, 5, 8), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
        theirs.train()  # in evaluation it takes a path of its own
        expected = ours.final_norm(theirs(states, src_key_padding_mask=is_real == 0))
        torch.testing.assert_close(ours(states, is_real)[is_real == 1], expected[is_real == 1])

    def test_after_each_addition_has_no_norm_at_the_end(self):
        assert not list(stack(norm_placement="post").final_norm.parameters())
        assert list(stack().final_norm.parameters())

    def test_another_place_or_norm_is_refused(self):
        with pytest.raises(ConfigError, match=r"model\.norm_placement is 'mid'; choose 'pre', 'post' or 'stream'\."):
            stack(norm_placement="mid")
        with pytest.raises(ConfigError, match=r"unknown model\.norm 'rmsnorm'\. Did you mean 'rms_norm'"):
            stack(norm="rmsnorm")


class TestRootMeanSquareNorm:
    def test_divides_by_the_root_of_the_mean_square(self):
        norm, states = get_norm("rms_norm", 6, 1e-3), torch.randn(4, 6)
        nn.init.normal_(norm.weight)
        expected = states / (states.square().mean(-1, keepdim=True) + 1e-3).sqrt() * norm.weight
        torch.testing.assert_close(norm(states), expected)

    def test_is_computed_in_single_precision(self):
        norm, states = get_norm("rms_norm", 64, 1e-12), torch.randn(4, 64) * 300
        found = norm(states.bfloat16())
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), norm(states.bfloat16().float()), rtol=2**-8, atol=0)

    def test_is_the_norm_of_all_blocks(self):
        norms = [module for module in stack(norm="rms_norm").modules() if isinstance(module, nn.RMSNorm)]
        assert len(norms) == 7
        assert not any(isinstance(module, nn.LayerNorm) for module in stack(norm="rms_norm").modules())


class TestGatedFeedForward:
    def test_is_a_product_of_two_projections(self):
        layer, states = FeedForward(6, 10, "swiglu"), torch.randn(3, 6)
        expected = layer.down(nn.functional.silu(layer.gate(states)) * layer.up(states))
        torch.testing.assert_close(layer(states), expected)

    def test_unknown_activations_are_refused_with_it_among_the_choices(self):
        with pytest.raises(ConfigError, match=r"unknown model\.activation 'swigl'.*'swiglu'"):
            FeedForward(6, 10, "swigl")


class TestRotaryPositions:
    def test_turn_pairs_by_position(self):
        heads = torch.randn(2, 3, 5, 8)
        pairs = torch.complex(heads[..., :4], heads[..., 4:])
        rates = 10_000.0 ** (-torch.arange(4) / 4)
        turned = pairs * torch.polar(torch.ones(5, 4), torch.arange(5)[:, None] * rates)
        found = RotaryEmbedding(8)(heads, torch.arange(5))
        torch.testing.assert_close(torch.complex(found[..., :4], found[..., 4:]), turned)

    def test_let_scores_depend_on_the_distance_only(self):
        turn, query, key = RotaryEmbedding(8), torch.randn(8), torch.randn(8)

        def score(at: int, other: int) -> torch.Tensor:
            first, second = (
                turn(each.view(1, 1, 1, 8), torch.tensor([place])).flatten()
                for each, place in ((query, at), (key, other))
            )
            return first @ second

        torch.testing.assert_close(score(2, 7), score(12, 17))
        assert not torch.isclose(score(2, 7), score(2, 6))

    def test_make_the_order_of_tokens_matter(self):
        states, order = torch.randn(1, 6, 8), torch.tensor([3, 1, 0, 2, 5, 4])
        plain, rotary = stack(), stack(rotary=True)
        torch.testing.assert_close(plain(states[:, order]), plain(states)[:, order])
        assert not torch.allclose(rotary(states[:, order]), rotary(states)[:, order], atol=1e-3)

    def test_go_on_from_what_a_cache_holds(self):
        found, states = stack(rotary=True).eval(), torch.randn(2, 6, 8)
        whole = found(states, mask=generate_causal_mask(6))
        caches = [KeyValueCache(6) for _ in range(3)]
        first = found(states[:, :4], mask=generate_causal_mask(4), caches=caches)
        rest = [found(states[:, [place]], caches=caches) for place in (4, 5)]
        torch.testing.assert_close(torch.cat([first, *rest], dim=1), whole)

    def test_need_heads_of_even_width(self):
        with pytest.raises(ConfigError, match=r"'rotary', which needs heads of an even width, but .* is 3"):
            TransformerStack(6, 1, 2, rotary=True)


class TestCheckpointing:
    def test_gives_the_same_gradients_from_two_computations(self):
        plain, saving = stack(), stack(checkpointing=True)
        saving.load_state_dict(plain.state_dict())
        states, bias = torch.randn(2, 5, 8), torch.randn(2, 5)
        calls = []
        saving.layers[1].register_forward_pre_hook(lambda *_: calls.append(1))
        for each in (plain, saving):
            each(states, torch.ones(2, 5), key_bias=bias).square().sum().backward()
        assert len(calls) == 2
        for own, other in zip(plain.parameters(), saving.parameters(), strict=True):
            assert torch.equal(own.grad, other.grad)

    def test_draws_the_same_dropout_twice(self):
        found = stack(checkpointing=True, dropout=0.5)
        states = torch.randn(1, 4, 8, requires_grad=True)
        torch.manual_seed(1)
        (saved,) = torch.autograd.grad(found(states).sum(), states)
        found.checkpointing = False
        torch.manual_seed(1)
        assert torch.equal(torch.autograd.grad(found(states).sum(), states)[0], saved)

    def test_is_for_training_only(self):
        found, calls = stack(checkpointing=True).eval(), []
        found.layers[1].register_forward_pre_hook(lambda *_: calls.append(1))
        found(torch.randn(1, 4, 8, requires_grad=True)).sum().backward()
        assert calls == [1]


class TestTrace:
    @pytest.mark.parametrize("placement", ["pre", "post"])
    def test_has_what_enters_and_leaves_each_block(self, placement):
        found, states, trace = stack(norm_placement=placement), torch.randn(2, 5, 8), Trace()
        out = found(states, trace=trace)
        assert len(trace.hidden_states) == 4
        assert torch.equal(trace.hidden_states[0], states)
        assert torch.equal(trace.hidden_states[-1], out)
        torch.testing.assert_close(found.layers[0](states), trace.hidden_states[1])
        assert trace.attentions == []

    def test_has_maps_that_give_what_attention_gives(self):
        found, states, trace = stack(rotary=True), torch.randn(2, 5, 8), Trace(states=False, maps=True)
        is_real, bias = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]), torch.randn(2, 5)
        found(states, is_real, key_bias=bias, trace=trace)
        assert [tuple(each.shape) for each in trace.attentions] == [(2, 2, 5, 5)] * 3
        torch.testing.assert_close(trace.attentions[0].sum(-1), torch.ones(2, 2, 5))
        assert (trace.attentions[0][1, :, :, 3:] == 0).all()
        layer = found.layers[0]
        normed = layer.attention_norm(states)
        value = layer.attention.v(normed).unflatten(-1, (2, 4)).transpose(1, 2)
        mixed = layer.attention.o((trace.attentions[0] @ value).transpose(1, 2).flatten(2))
        torch.testing.assert_close(layer.attention(normed, is_real == 1, key_bias=bias), mixed)


class TestTiedHead:
    @staticmethod
    def made() -> nn.ModuleDict:
        torch.manual_seed(0)
        table = nn.Embedding(11, 6)
        return nn.ModuleDict({"table": table, "head": MaskedGenePredictionHead(6, 11, tied_to=table)})

    def test_scores_by_the_vectors_of_the_embedding(self):
        model, states = self.made(), torch.randn(4, 6)
        nn.init.normal_(model["head"].decoder.bias)
        expected = model["head"].features(states) @ model["table"].weight.T + model["head"].decoder.bias
        torch.testing.assert_close(model["head"](states), expected)

    def test_stores_them_once(self):
        assert [name for name in self.made().state_dict() if "decoder" in name] == ["head.decoder.bias"]

    def test_stays_tied_in_a_copy(self):
        model = self.made()
        other = copy.deepcopy(model)
        with torch.no_grad():
            other["table"].weight.mul_(2)
        states = torch.randn(4, 6)
        torch.testing.assert_close(other["head"](states), 2 * model["head"](states))

    def test_teaches_the_embedding_by_both_losses_alike(self, monkeypatch):
        labels = torch.randint(0, 11, (3, 4))
        states = torch.randn(3, 4, 6)
        found = []
        for at_once in (1, 10**9):  # with the fused loss, and with plain scores
            monkeypatch.setattr("scmodelforge.models.components.losses._LOGITS_AT_ONCE", at_once)
            model = self.made()
            gathered_cross_entropy(states, labels, model["head"]).backward()
            found.append(model["table"].weight.grad)
        model = self.made()
        masked_cross_entropy(model["head"](states), labels).backward()
        for gradient in found:
            torch.testing.assert_close(gradient, model["table"].weight.grad)
