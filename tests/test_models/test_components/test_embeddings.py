"""Genes, positions and values as vectors; vectors given by a tokenizer."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from torch import nn

from scmodelforge.data.types import EmbeddingSpec
from scmodelforge.models import TransformerEncoder
from scmodelforge.models.components import GeneExpressionEmbedding, apply_embedding_spec
from scmodelforge.models.components.embeddings import blank_padding


def make(**settings) -> GeneExpressionEmbedding:
    torch.manual_seed(0)
    return GeneExpressionEmbedding(**{"vocab_size": 50, "hidden_dim": 16, "max_seq_len": 32, **settings}).eval()


class TestGeneExpressionEmbedding:
    def test_defaults(self):
        parameters = inspect.signature(GeneExpressionEmbedding).parameters
        assert [(name, p.default) for name, p in parameters.items()] == [
            ("vocab_size", inspect.Parameter.empty),
            ("hidden_dim", inspect.Parameter.empty),
            ("max_seq_len", 2048),
            ("dropout", 0.1),
            ("use_expression_values", True),
            ("layer_norm_eps", 1e-12),
            ("use_positions", True),
            ("value_bins", None),
        ]
        assert parameters["use_positions"].kind is inspect.Parameter.KEYWORD_ONLY

    def test_documented_example(self):
        embedding = GeneExpressionEmbedding(vocab_size=50, hidden_dim=32, max_seq_len=64, use_expression_values=True)
        input_ids = torch.randint(0, 50, (8, 40))
        assert embedding(input_ids, values=torch.randn(8, 40)).shape == (8, 40, 32)
        assert embedding(input_ids).shape == (8, 40, 32)

    def test_missing_values_are_zeros(self):
        embedding, ids = make(), torch.randint(0, 50, (3, 5))
        nn.init.ones_(embedding.value_projection.bias)
        assert torch.equal(embedding(ids), embedding(ids, values=torch.zeros(3, 5)))

    def test_integer_values_are_taken(self):
        embedding, ids = make(), torch.randint(0, 50, (3, 5))
        values = torch.arange(15).reshape(3, 5)
        assert torch.equal(embedding(ids, values=values), embedding(ids, values=values.double()))

    def test_it_is_the_normalised_sum_of_its_parts(self):
        embedding, ids, values = make(), torch.tensor([[7, 9]]), torch.tensor([[0.5, 2.0]])
        gene, position = embedding.gene_embedding.weight, embedding.position_embedding.weight
        slope, offset = embedding.value_projection.weight[:, 0], embedding.value_projection.bias
        second = gene[9] + position[1] + 2.0 * slope + offset
        expected = (second - second.mean()) / second.std(unbiased=False)
        assert torch.allclose(embedding(ids, values)[0, 1], expected, atol=1e-5)

    def test_values_may_be_bins_with_a_vector_each(self):
        embedding = make(value_bins=5, use_positions=False)
        ids, values = torch.tensor([[7, 7, 7, 7, 7, 9]]), torch.tensor([[0.0, 0.24, 0.26, 0.5, 1.0, 0.75]])
        out = embedding(ids, values)
        summed = embedding.gene_embedding.weight[9] + embedding.bin_embedding.weight[3]
        assert torch.allclose(out[0, 5], (summed - summed.mean()) / summed.std(unbiased=False), atol=1e-4)
        assert torch.equal(out[0, 1], out[0, 2])  # both are nearest to 0.25
        assert len(out[0].detach().unique(dim=0)) == 5
        assert torch.equal(embedding(ids), embedding(ids, torch.zeros(1, 6)))
        assert embedding.value_projection is None

    def test_bins_beyond_the_scale_are_the_outermost_and_that_is_said_once(self, caplog):
        embedding, ids = make(value_bins=5), torch.tensor([[7, 7]])
        beyond = embedding(ids, torch.tensor([[-3.0, 30.0]]))
        assert torch.equal(beyond, embedding(ids, torch.tensor([[0.0, 1.0]])))
        embedding(ids, torch.tensor([[-3.0, 30.0]]))
        assert [record.getMessage() for record in caplog.records] == [
            "values from -3 to 30 are read as bins, whose values lie between 0 and 1: those below count as bin 0, "
            "those above as bin 4. Give the number of each bin over 4."
        ]

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_value_that_is_not_a_number_is_no_bin(self, value):
        with pytest.raises(ValueError, match="a value that is to be read as a bin is infinite or NaN; give a number"):
            make(value_bins=5)(torch.tensor([[7, 7]]), torch.tensor([[0.5, value]]))

    def test_fewer_than_two_bins_are_none(self):
        with pytest.raises(ValueError, match="value_bins is 0; it must be 2 or more, or None to project values"):
            make(value_bins=0)

    def test_dropout_acts_in_training_only(self):
        embedding, ids = make(dropout=0.5), torch.randint(0, 50, (3, 5))
        assert (embedding(ids) != 0).all()
        assert (embedding.train()(ids) == 0).any()

    def test_padding_gets_no_gradient(self):
        embedding = make()
        embedding(torch.tensor([[0, 5]])).pow(3).sum().backward()
        gradient = embedding.gene_embedding.weight.grad
        assert (gradient[0] == 0).all()
        assert (gradient[5] != 0).any()

    def test_a_full_sequence_fits(self):
        assert make()(torch.ones(1, 32, dtype=torch.long)).shape == (1, 32, 16)

    def test_a_longer_one_is_refused(self):
        with pytest.raises(ValueError, match=r"33 tokens exceed model.max_seq_len \(32\); raise it or lower"):
            make()(torch.ones(1, 33, dtype=torch.long))

    def test_an_unknown_token_is_refused(self):
        with pytest.raises(ValueError, match=r"token id 50 is not in the vocabulary of 50 tokens"):
            make()(torch.tensor([[3, 50]]))

    def test_positions_are_the_places_by_default(self):
        embedding, ids = make(), torch.randint(0, 50, (3, 5))
        places = torch.arange(5).expand(3, 5)
        assert torch.equal(embedding(ids), embedding(ids, positions=places))

    def test_given_positions_are_taken_for_each_cell(self):
        """A token embedded alone, at its position, is the token in its cell."""
        embedding, ids, values = make(), torch.randint(0, 50, (3, 5)), torch.rand(3, 5)
        whole = embedding(ids, values)
        at = torch.tensor([[4], [0], [2]])
        alone = embedding(ids.gather(1, at), values.gather(1, at), positions=at)
        assert torch.allclose(alone[:, 0], whole[torch.arange(3), at[:, 0]], atol=1e-6)

    def test_without_positions_place_does_not_matter(self):
        embedding, ids, values = make(use_positions=False), torch.randint(0, 50, (3, 5)), torch.rand(3, 5)
        assert embedding.position_embedding is None
        assert not any("position" in name for name, _ in embedding.named_parameters())
        assert torch.equal(embedding(ids.flip(1), values.flip(1)), embedding(ids, values).flip(1))
        far = torch.full((3, 5), 31)
        assert torch.equal(embedding(ids, values, positions=far), embedding(ids, values))

    def test_without_positions_length_is_limited_too(self):
        with pytest.raises(ValueError, match=r"33 tokens exceed model.max_seq_len \(32\)"):
            make(use_positions=False)(torch.ones(1, 33, dtype=torch.long))

    def test_it_can_be_called_by_place(self):
        embedding, ids, values = make(), torch.randint(0, 50, (3, 5)), torch.rand(3, 5)
        assert torch.equal(embedding(ids, values), embedding(input_ids=ids, values=values))
        assert list(inspect.signature(embedding.forward).parameters)[:2] == ["input_ids", "values"]


class TestCheckIds:
    @pytest.mark.parametrize(("ids", "named"), [([[3, 50]], 50), ([[-2, 7]], -2), ([[-1, 99]], -1)])
    def test_ids_outside_the_vocabulary_are_named(self, ids, named):
        with pytest.raises(ValueError, match=rf"token id {named} is not in the vocabulary of 50 tokens .*vocab_size"):
            make().check_ids(torch.tensor(ids))

    def test_all_of_the_vocabulary_and_nothing_pass(self):
        make().check_ids(torch.arange(50)[None])
        make().check_ids(torch.zeros(0, 3, dtype=torch.long))


class TestBlankPadding:
    def test_only_padding_is_blanked_and_in_copies(self):
        ids, values = torch.tensor([[5, 6]]), torch.tensor([[1.0, float("nan")]])
        new_ids, new_values = blank_padding(ids, values, torch.tensor([[1, 0]]))
        assert new_ids.tolist() == [[5, 0]]
        assert new_values.tolist() == [[1.0, 0.0]]
        assert ids.tolist() == [[5, 6]]
        assert blank_padding(ids, None, torch.tensor([[1, 0]]))[1] is None


def spec_of(width: int, *, trainable: bool = False, vocab_size: int = 50) -> EmbeddingSpec:
    vectors = np.random.default_rng(0).normal(size=(vocab_size, width)).astype(np.float32)
    known = np.arange(vocab_size) >= 10
    return EmbeddingSpec(vectors=vectors, known=known, trainable=trainable)


class TestGivenVectors:
    @pytest.mark.parametrize("width", [16, 5])
    def test_known_tokens_have_their_vectors_and_the_others_learned_ones(self, width):
        embedding, spec = make(), spec_of(width)
        apply_embedding_spec(nn.Sequential(embedding), spec)
        genes = embedding.gene_embedding(torch.tensor([[3, 20]]))
        given = torch.from_numpy(spec.vectors)
        expected = given[20] if width == 16 else embedding.gene_embedding.projection.weight @ given[20]
        assert torch.allclose(genes[0, 1], expected, atol=1e-6)
        assert torch.equal(genes[0, 0], embedding.gene_embedding.learned.weight[3])

    @pytest.mark.parametrize("trainable", [True, False])
    def test_vectors_are_trained_only_if_asked(self, tiny_config, dummy_batch, trainable):
        model = TransformerEncoder.from_config(tiny_config)
        apply_embedding_spec(model, spec_of(5, trainable=trainable))
        model(**dummy_batch).loss.backward()
        layer = model.embedding.gene_embedding
        assert (layer.given.weight.grad is not None) == trainable
        assert layer.projection.weight.grad.abs().sum() > 0
        assert layer.learned.weight.grad[2].abs().sum() > 0  # the mask token has no vector

    def test_padding_stays_zero(self):
        embedding = make()
        apply_embedding_spec(embedding, spec_of(5))
        assert (embedding.gene_embedding(torch.tensor([0])) == 0).all()

    def test_the_spec_is_copied(self):
        embedding, spec = make(), spec_of(16, trainable=True)
        apply_embedding_spec(embedding, spec)
        embedding.gene_embedding.given.weight.data.zero_()
        assert spec.vectors.any()

    def test_weights_are_saved_and_loaded_with_the_vectors(self, tiny_config, dummy_batch):
        models = [TransformerEncoder.from_config(tiny_config) for _ in range(2)]
        for model in models:
            apply_embedding_spec(model, spec_of(5))
        models[1].load_state_dict(models[0].state_dict())
        assert torch.equal(models[0].encode(**dummy_batch), models[1].encode(**dummy_batch))

    def test_a_model_without_the_layer_is_refused(self):
        with pytest.raises(ValueError, match="gene vectors but Linear has no GeneExpressionEmbedding"):
            apply_embedding_spec(nn.Linear(2, 2), spec_of(5))

    def test_vectors_of_another_vocabulary_are_refused(self):
        with pytest.raises(ValueError, match=r"vectors of 40 tokens, the model has 50"):
            apply_embedding_spec(make(), spec_of(5, vocab_size=40))
