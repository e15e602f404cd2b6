"""The baseline model: a newcomer's tests, then what it refuses."""

from __future__ import annotations

import pytest
import torch

from scmodelforge.config.schema import ModelConfig
from scmodelforge.models.gene_pooling import GenePoolingModel
from scmodelforge.models.protocol import ModelOutput


class TestForward:
    def test_it_returns_a_model_output(self, tiny_config, dummy_batch):
        model = GenePoolingModel.from_config(tiny_config)
        assert isinstance(model(**dummy_batch), ModelOutput)

    def test_each_cell_gets_one_embedding(self, tiny_config, dummy_batch):
        out = GenePoolingModel.from_config(tiny_config)(**dummy_batch)
        num_cells = dummy_batch["input_ids"].size(0)
        assert out.embeddings.shape == (num_cells, tiny_config.hidden_dim)

    def test_each_token_gets_a_score_for_every_gene(self, tiny_config, dummy_batch):
        out = GenePoolingModel.from_config(tiny_config)(**dummy_batch)
        num_cells, num_tokens = dummy_batch["input_ids"].shape
        assert out.logits.shape == (num_cells, num_tokens, tiny_config.vocab_size)

    def test_with_labels_there_is_a_scalar_positive_loss(self, tiny_config, dummy_batch):
        out = GenePoolingModel.from_config(tiny_config)(**dummy_batch)
        assert out.loss is not None
        assert out.loss.shape == ()
        assert out.loss.item() > 0

    def test_without_labels_there_is_no_loss(self, tiny_config, dummy_batch):
        del dummy_batch["labels"]
        assert GenePoolingModel.from_config(tiny_config)(**dummy_batch).loss is None


class TestEncode:
    def test_each_cell_gets_one_embedding(self, tiny_config, dummy_batch):
        model = GenePoolingModel.from_config(tiny_config)
        embeddings = model.encode(dummy_batch["input_ids"], dummy_batch["attention_mask"], values=dummy_batch["values"])
        assert embeddings.shape == (dummy_batch["input_ids"].size(0), tiny_config.hidden_dim)

    def test_encode_matches_forward_embeddings(self, tiny_config, dummy_batch):
        model = GenePoolingModel.from_config(tiny_config)
        model.training = False
        with torch.no_grad():
            embeddings = model.encode(
                dummy_batch["input_ids"], dummy_batch["attention_mask"], values=dummy_batch["values"]
            )
            out = model(**dummy_batch)
        assert torch.allclose(embeddings, out.embeddings, atol=1e-6)


class TestSettings:
    def test_from_config_takes_the_sizes(self, tiny_config):
        model = GenePoolingModel.from_config(tiny_config)
        assert model.vocab_size == tiny_config.vocab_size
        assert model.hidden_dim == tiny_config.hidden_dim

    def test_from_config_needs_the_vocabulary_size(self):
        with pytest.raises(ValueError, match="vocab_size must be set"):
            GenePoolingModel.from_config(ModelConfig(vocab_size=None))

    def test_all_parameters_are_trained_at_first(self, tiny_config):
        model = GenePoolingModel.from_config(tiny_config)
        total = model.num_parameters(trainable_only=False)
        assert total > 0
        assert model.num_parameters(trainable_only=True) == total

    def test_another_pooling_than_the_mean_is_refused(self, tiny_config):
        tiny_config.pooling = "cls"
        with pytest.raises(ValueError, match=r"model.pooling is 'cls', but gene_pooling always averages"):
            GenePoolingModel.from_config(tiny_config)

    def test_no_pooling_named_means_the_mean(self, tiny_config, dummy_batch):
        tiny_config.pooling = None
        model = GenePoolingModel.from_config(tiny_config)
        order = [3, 1, 2, 0]  # of four equal positions, so that only pooling could tell them apart
        model.embedding.position_embedding.weight.data.zero_()
        ids, mask, values = (dummy_batch[key][1:, :4] for key in ("input_ids", "attention_mask", "values"))
        shuffled = model.encode(ids[:, order], mask, values=values[:, order])
        assert torch.allclose(model.encode(ids, mask, values=values), shuffled, atol=1e-6)


class TestTraining:
    def test_loss_decreases(self, tiny_config, dummy_batch):
        model = GenePoolingModel.from_config(tiny_config)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        initial_loss = model(**dummy_batch).loss.item()
        for _ in range(10):
            optimizer.zero_grad()
            model(**dummy_batch).loss.backward()
            optimizer.step()
        assert model(**dummy_batch).loss.item() < initial_loss


def test_tokens_do_not_see_each_other(tiny_config, dummy_batch):
    model = GenePoolingModel.from_config(tiny_config)
    before = model(**dummy_batch).logits
    dummy_batch["input_ids"][:, 5] = 17
    after = model(**dummy_batch).logits
    others = [t for t in range(12) if t != 5]
    assert torch.equal(before[:, others], after[:, others])
    assert not torch.equal(before[:, 5], after[:, 5])


def test_layers_are_added_to_what_they_read(tiny_config, dummy_batch):
    model = GenePoolingModel.from_config(tiny_config)
    for layer in model.layers:
        layer[-1].weight.data.zero_()
    embedded = model.embedding(dummy_batch["input_ids"], dummy_batch["values"])
    found = model.encode(**dummy_batch)
    assert torch.allclose(found[1:], embedded[1:].mean(1), atol=1e-6)
    assert torch.allclose(found[0], embedded[0, :9].mean(0), atol=1e-6)
