from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.data.types import EmbeddingSpec
from scmodelforge.models import (
    AutoregressiveTransformer,
    GenePoolingModel,
    MaskedAutoencoder,
    TranscriptFormer,
    TransformerEncoder,
)
from scmodelforge.models.components import (
    AutoBinEmbedding,
    GeneExpressionEmbedding,
    MultiHeadAttention,
    apply_embedding_spec,
    biased_attention,
)
from scmodelforge.models.components.attention import KeyValueCache
from scmodelforge.models.components.values import count_bias, with_key_bias

BIAS = EmbeddingSpec(values="attention_bias")
EVERY = [AutoregressiveTransformer, GenePoolingModel, MaskedAutoencoder, TranscriptFormer, TransformerEncoder]
AUTO = EmbeddingSpec(values="auto_bins", num_auto_bins=7)


def parts(width: int, *, heads: int = 2, length: int = 9):
    """Return queries, keys, values and the bias of counts up to 30."""
    drawn = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(3, heads, length, width, generator=drawn) for _ in range(3))
    return query, key, value, count_bias(torch.randint(0, 31, (3, length), generator=drawn))


def with_bias(model_class, config):
    """Return a model that reads values as a bias of attention alone."""
    torch.manual_seed(0)
    settings = model_class.config_class(**config.model_dump(), **({"value_embedding": "linear"}))
    model = model_class.from_config(settings).eval()
    apply_embedding_spec(model, BIAS)
    return model


class TestBiasedAttention:
    @pytest.mark.parametrize("width", [8, 7, 16, 3])
    @pytest.mark.parametrize("causal", [False, True])
    @pytest.mark.parametrize("padded", [False, True])
    def test_equals_a_mask_with_the_bias_in_it(self, width, causal, padded):
        query, key, value, bias = parts(width)
        allowed = torch.ones(3, 1, 9, 9, dtype=torch.bool)
        if causal:
            allowed = allowed.tril()
        if padded:
            allowed = allowed & (torch.arange(9) < torch.tensor([9, 4, 1])[:, None])[:, None, None, :]
        explicit = bias[:, None, None, :].expand(3, 1, 9, 9).masked_fill(~allowed, float("-inf"))
        expected = F.scaled_dot_product_attention(query, key, value, attn_mask=explicit)
        options = {"attn_mask": allowed} if padded else {"is_causal": causal}
        found = biased_attention(query, key, value, bias, **options)
        assert found.shape == value.shape
        assert torch.allclose(found, expected, atol=1e-5)

    def test_is_that_of_the_formula(self):
        query, key, value, bias = parts(8)
        scores = query @ key.transpose(-1, -2) / math.sqrt(8) + bias[:, None, None, :]
        assert torch.allclose(biased_attention(query, key, value, bias), scores.softmax(dim=-1) @ value, atol=1e-5)

    def test_gradients_reach_all_and_are_those_of_the_mask(self):
        given = [part.requires_grad_() for part in parts(7)]
        query, key, value, bias = given
        found = torch.autograd.grad(biased_attention(*given).square().sum(), given)
        mask = bias[:, None, None, :].expand(3, 1, 9, 9)
        expected = torch.autograd.grad(
            F.scaled_dot_product_attention(query, key, value, attn_mask=mask).square().sum(), given
        )
        for one, other in zip(found, expected, strict=True):
            assert torch.allclose(one, other, atol=1e-4)

    @pytest.mark.parametrize(("width", "padded"), [(7, 8), (8, 16), (64, 72)])
    def test_heads_are_of_a_width_that_fused_kernels_take_without_a_mask(self, width, padded):
        augmented = with_key_bias(*parts(width))
        assert [part.shape[-1] for part in augmented] == [padded] * 3
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):  # raises if it cannot
            F.scaled_dot_product_attention(*augmented, scale=width**-0.5, is_causal=True)

    def test_a_hidden_count_adds_nothing_and_one_of_30_adds_log_31(self):
        assert count_bias(torch.tensor([[0, 1, 30]])).tolist()[0] == pytest.approx([0, math.log(2), math.log(31)])

    def test_a_layer_takes_it_token_by_token_too(self):
        torch.manual_seed(0)
        attention, hidden = MultiHeadAttention(16, 2), torch.randn(2, 6, 16)
        bias = torch.rand(2, 6) * 3
        whole = attention(hidden, mask=torch.ones(6, 6, dtype=torch.bool).tril(), key_bias=bias)
        cache = KeyValueCache(6)
        steps = [attention(hidden[:, i : i + 1], cache=cache, key_bias=bias[:, i : i + 1]) for i in range(6)]
        assert torch.allclose(torch.cat(steps, dim=1), whole, atol=1e-5)


class TestAutoBins:
    def test_weights_are_a_softmax_over_bins_of_the_formula(self):
        torch.manual_seed(0)
        layer, value = AutoBinEmbedding(6, 4, alpha=0.5), 1.7
        reached = layer.to_bins.weight[:, 0] * value + layer.to_bins.bias
        reached = torch.where(reached > 0, reached, 0.1 * reached)
        logits = layer.between_bins.weight @ reached + layer.between_bins.bias + 0.5 * reached
        weights = logits.exp() / logits.exp().sum()
        assert torch.allclose(layer.weights(torch.tensor([[value]]))[0, 0], weights, atol=1e-6)
        assert torch.allclose(layer(torch.tensor([[value]]))[0, 0], weights @ layer.bins.weight, atol=1e-6)

    def test_hidden_values_and_padding_have_vectors_of_their_own_whatever_stands_there(self):
        layer = AutoBinEmbedding(6, 4)
        hidden, padding = torch.tensor([[True, False, False]]), torch.tensor([[False, False, True]])
        found = layer(torch.tensor([[9.0, 2.0, 7.0]]), hidden, padding)
        assert torch.equal(found[0, 0], layer.hidden_vector)
        assert torch.equal(found[0, 2], layer.padding_vector)
        assert torch.allclose(found[0, 1], layer(torch.tensor([[2.0]]))[0, 0], atol=1e-6)

    def test_an_embedding_tells_masks_and_padding_by_their_ids(self):
        embedding = GeneExpressionEmbedding(20, 6, dropout=0.0)
        apply_embedding_spec(embedding, AUTO)
        assert embedding.auto_bins.bins.num_embeddings == 7
        assert embedding.value_projection is None
        ids, values = torch.tensor([[2, 0, 5]]), torch.tensor([[0.0, 0.0, 3.0]])
        whole = embedding(ids, values)
        bins = embedding.auto_bins
        for place, vector in enumerate((bins.hidden_vector, bins.padding_vector, bins(torch.tensor([[3.0]]))[0, 0])):
            alone = embedding.gene_embedding(ids[0, place]) + embedding.position_embedding.weight[place] + vector
            assert torch.allclose(whole[0, place], embedding.layer_norm(alone), atol=1e-6)
        assert torch.equal(embedding(ids), embedding(ids, torch.zeros(1, 3)))


class TestInModels:
    @pytest.mark.parametrize("model_class", [TransformerEncoder, MaskedAutoencoder])
    @pytest.mark.parametrize("spec", [BIAS, AUTO])
    def test_values_reach_embeddings_and_gradients_the_weights(self, model_class, spec, tiny_config, dummy_batch):
        torch.manual_seed(0)
        model = model_class.from_config(tiny_config).eval()
        apply_embedding_spec(model, spec)
        ids, mask = dummy_batch["input_ids"], dummy_batch["attention_mask"]
        values = torch.randint(1, 30, ids.shape).float()
        changed = values.clone()
        changed[:, 1] += 25
        assert not torch.allclose(model.encode(ids, mask, values), model.encode(ids, mask, changed), atol=1e-4)
        model.encode(ids, mask, values).square().sum().backward()
        if spec is AUTO:
            assert model.embedding.auto_bins.to_bins.weight.grad.abs().sum() > 0
        assert model.embedding.value_projection is None

    @pytest.mark.parametrize("model_class", [TransformerEncoder, MaskedAutoencoder])
    def test_a_bias_without_values_changes_nothing_but_the_projection(self, model_class, tiny_config, dummy_batch):
        torch.manual_seed(0)
        model = model_class.from_config(tiny_config).eval()
        ids, mask = dummy_batch["input_ids"], dummy_batch["attention_mask"]
        plain = model.encode(ids, mask)  # the projection of 0 is its bias, which starts at 0
        apply_embedding_spec(model, BIAS)
        assert torch.allclose(model.encode(ids, mask), plain, atol=1e-5)

    @pytest.mark.parametrize("model_class", [TransformerEncoder, MaskedAutoencoder])
    @pytest.mark.parametrize("spec", [BIAS, AUTO])
    def test_padding_does_not_matter(self, model_class, spec, tiny_config):
        torch.manual_seed(0)
        model = model_class.from_config(tiny_config).eval()
        apply_embedding_spec(model, spec)
        ids, values = torch.tensor([[3, 7, 9]]), torch.tensor([[0.0, 4.0, 20.0]])
        padded_ids, padded_values = torch.tensor([[3, 7, 9, 11, 12]]), torch.tensor([[0.0, 4, 20, float("nan"), 30]])
        mask = torch.tensor([[1, 1, 1, 0, 0]])
        alone = model.encode(ids, torch.ones_like(ids), values)
        assert torch.allclose(model.encode(padded_ids, mask, padded_values), alone, atol=1e-5)

    def test_models_without_such_attention_refuse_a_bias(self, tiny_config):
        with pytest.raises(ConfigError, match="'attention_bias', but GenePoolingModel has no attention that takes"):
            apply_embedding_spec(GenePoolingModel.from_config(tiny_config), BIAS)

    @pytest.mark.parametrize("values", ["linear", "auto_bins"])
    def test_a_model_with_one_use_of_values_refuses_others(self, values, tiny_config):
        words = f"'{values}', but TranscriptFormer reads values in one way only; set it to 'attention_bias'"
        with pytest.raises(ConfigError, match=words):
            apply_embedding_spec(TranscriptFormer.from_config(tiny_config), EmbeddingSpec(values=values))

    @pytest.mark.parametrize("prefix", [None, 1, 3])
    def test_in_a_causal_model_a_count_reaches_those_that_see_its_gene(self, prefix, tiny_config):
        model = with_bias(AutoregressiveTransformer, tiny_config)
        ids, mask = torch.tensor([[3, 7, 9, 11, 13]]), torch.ones(1, 5)
        values = torch.tensor([[0.0, 4.0, 20.0, 1.0, 2.0]])
        prefix_len = None if prefix is None else torch.tensor([prefix])
        changed = values.clone()
        changed[0, 2] = 1.0
        before, after = (model(ids, mask, each, prefix_len=prefix_len).logits[0] for each in (values, changed))
        is_same = [torch.allclose(one, other, atol=1e-6) for one, other in zip(before, after, strict=True)]
        sees = [place >= 2 or (prefix == 3 and place < 3) for place in range(5)]
        assert is_same == [not each for each in sees]

    def test_cells_are_drawn_with_and_without_a_cache_alike(self, tiny_config):
        model = with_bias(AutoregressiveTransformer, tiny_config)
        prompt = {"input_ids": torch.tensor([[3, 7], [3, 9]]), "values": torch.tensor([[0.0, 9.0], [0.0, 2.0]])}
        table = torch.arange(51.0) * 3  # as counts
        options = {"max_new_genes": 5, "temperature": 0.0, "bin_values": table}
        slow, fast = (model.generate(**prompt, **options, use_cache=cache) for cache in (False, True))
        assert torch.equal(slow.input_ids, fast.input_ids)
        assert torch.allclose(slow.log_probs, fast.log_probs, atol=1e-4)
        plain = prompt | {"values": torch.zeros(2, 2)}
        assert not torch.allclose(model.generate(**plain, **options).log_probs, fast.log_probs, atol=1e-4)

    @pytest.mark.parametrize("model_class", EVERY)
    def test_given_vectors_reach_what_every_model_answers(self, model_class, tiny_config, dummy_batch):
        torch.manual_seed(0)
        model = model_class.from_config(tiny_config).eval()
        vectors = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
        known = np.arange(50) > 3
        apply_embedding_spec(model, EmbeddingSpec(vectors, known))
        plain = {key: dummy_batch[key] for key in ("input_ids", "attention_mask", "values")}
        before = model.encode(**plain)
        with torch.no_grad():
            model.embedding.gene_embedding.given.weight.mul_(-1)
        assert not torch.allclose(model.encode(**plain), before, atol=1e-4)
        assert not model.embedding.gene_embedding.given.weight.requires_grad
        model.encode(**plain).square().sum().backward()
        assert model.embedding.gene_embedding.projection.weight.grad.abs().sum() > 0

    def test_models_without_the_embedding_refuse_bins(self):
        with pytest.raises(ConfigError, match="'auto_bins', but Linear has no GeneExpressionEmbedding"):
            apply_embedding_spec(nn.Linear(2, 2), AUTO)
        apply_embedding_spec(nn.Linear(2, 2), EmbeddingSpec(values="linear"))

    @pytest.mark.parametrize(
        ("model_class", "setting", "words"),
        [
            (AutoregressiveTransformer, {}, r"but model\.value_embedding is 'bins'; set it to 'linear'"),
            (TransformerEncoder, {"use_expression_values": False}, r"but model\.use_expression_values is false"),
        ],
    )
    def test_models_that_read_values_otherwise_or_not_refuse_bins(self, model_class, setting, words, tiny_config):
        model = model_class.from_config(tiny_config.model_copy(update=setting))
        with pytest.raises(ConfigError, match=words):
            apply_embedding_spec(model, AUTO)

    def test_vectors_and_values_come_together(self, tiny_config, dummy_batch):
        model = TransformerEncoder.from_config(tiny_config)
        vectors = np.ones((model.vocab_size, 5), dtype=np.float32)
        known = np.arange(model.vocab_size) > 4
        apply_embedding_spec(model, EmbeddingSpec(vectors, known, values="auto_bins"))
        assert model.embedding.gene_embedding.given.weight.shape == (model.vocab_size, 5)
        assert model.embedding.auto_bins.bins.num_embeddings == 100
        model(**dummy_batch).loss.backward()
