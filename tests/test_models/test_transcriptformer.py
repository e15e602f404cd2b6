"""The causal model of genes and counts: what is particular to it."""

from __future__ import annotations

import pytest
import torch

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.models import TranscriptFormer
from scmodelforge.models.transcriptformer import TranscriptFormerConfig
from tests.test_models.batches import next_count_batch


def make(tiny_config, **changes) -> TranscriptFormer:
    torch.manual_seed(0)
    settings = tiny_config.model_dump() | {"architecture": "transcriptformer", **changes}
    return TranscriptFormer.from_config(TranscriptFormerConfig.model_validate(settings)).eval()


@pytest.fixture
def batch(dummy_batch):
    return next_count_batch(dummy_batch)


class TestCounts:
    def test_rates_are_shares_of_all_transcripts_of_the_cell(self, tiny_config, batch):
        model, labels, counts = make(tiny_config, count_rates="shares"), batch["labels"], batch["targets"]
        rates = model.log_rates(torch.randn(4, 12, 16), labels, counts).exp().masked_fill(labels == -100, 0)
        assert torch.allclose(rates.sum(1), counts.sum(1), rtol=1e-5)

    @pytest.mark.parametrize("count_rates", ["own", "shares"])
    def test_only_published_rates_know_of_the_count_they_are_for(self, tiny_config, batch, count_rates):
        model, labels = make(tiny_config, count_rates=count_rates), batch["labels"]

        def rate_of_the_second_gene(counts: list[float]) -> torch.Tensor:
            values, targets = batch["values"].clone(), batch["targets"].clone()
            values[3, 2:4] = targets[3, 1:3] = torch.tensor(counts)
            hidden = model(**batch | {"values": values}, output_hidden_states=True).hidden_states[-1]
            return model.log_rates(hidden, labels, targets)[3, 1]

        assert labels[3, 1] != -100
        few, many, later = (rate_of_the_second_gene(counts) for counts in ([1.0, 2.0], [30.0, 2.0], [1.0, 30.0]))
        assert torch.equal(few, many) == torch.equal(few, later) == (count_rates == "own")

    def test_the_loss_is_that_of_the_truncated_distribution_of_these_rates(self, tiny_config, batch):
        model = make(tiny_config, expression_loss_weight=0.5)
        out = model(**batch, output_hidden_states=True)
        is_target = batch["labels"] != -100
        mu = model.log_rates(out.hidden_states[-1], batch["labels"], batch["targets"])[is_target].exp()
        counts = batch["targets"][is_target]
        expected = (torch.expm1(mu).log() - counts * mu.log() + torch.lgamma(counts + 1)).mean()
        assert torch.allclose(out.loss_terms["expression_count"], 0.5 * expected, atol=1e-5)

    def test_the_name_of_the_gene_counts(self, tiny_config, batch):
        model = make(tiny_config)
        states, other = torch.randn(4, 12, 16), batch["labels"].clone()
        other[0, 0] = 11 if other[0, 0] != 11 else 12
        before, after = (model.log_rates(states, each, batch["targets"])[0] for each in (batch["labels"], other))
        assert not torch.allclose(before, after)

    def test_without_counts_only_genes_are_learned(self, tiny_config, batch):
        del batch["targets"]
        assert set(make(tiny_config)(**batch).loss_terms) == {"next_gene"}

    def test_what_is_no_count_is_refused(self, tiny_config, batch):
        batch["targets"] = batch["targets"] / 2
        with pytest.raises(DataError, match=r"takes counts of 1, 2, \.\.\."):
            make(tiny_config)(**batch)

    def test_a_count_adds_to_the_attention_of_later_genes_only(self, tiny_config):
        model, ids, mask = make(tiny_config), torch.tensor([[3, 7, 9, 11]]), torch.ones(1, 4)
        values = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
        changed = values.clone()
        changed[0, 2] = 30.0
        before, after = (model(ids, mask, each).logits[0] for each in (values, changed))
        assert torch.equal(before[:3], after[:3])  # the gene itself included
        assert not torch.allclose(before[3], after[3], atol=1e-4)

    def test_for_embedding_it_adds_to_its_own_if_asked_for(self, tiny_config):
        ids, mask = torch.tensor([[3, 7]]), torch.ones(1, 2)
        few, many = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 30.0]])
        plain, own = make(tiny_config), make(tiny_config, own_counts_when_encoding=True)
        assert torch.equal(plain.encode(ids, mask, few), plain.encode(ids, mask, many))
        assert not torch.allclose(own.encode(ids, mask, few), own.encode(ids, mask, many), atol=1e-4)
        assert torch.equal(own(ids, mask, few).logits, own(ids, mask, many).logits)


class TestScores:
    def test_are_capped(self, tiny_config, batch):
        model, free = make(tiny_config, soft_cap=0.1), make(tiny_config, soft_cap=None)
        assert model(**batch).logits.abs().max() <= 0.1 + 1e-6
        assert free(**batch).logits.abs().max() > 0.1


class TestAssays:
    def test_are_seen_by_all_genes_and_an_unknown_one_by_none(self, tiny_config, batch):
        model = make(tiny_config, num_assays=3)
        del batch["labels"]
        plain, unknown = model(**batch), model(**batch, assay_ids=torch.zeros(4, dtype=torch.int64))
        assert torch.allclose(plain.logits, unknown.logits, atol=1e-5)
        one, two = (model(**batch, assay_ids=torch.full((4,), number)).logits for number in (1, 2))
        assert ((one - two).abs().amax(-1) > 1e-5).all(dim=1).tolist()[1:] == [True] * 3

    def test_gradients_reach_them(self, tiny_config, batch):
        model = make(tiny_config, num_assays=3)
        model(**batch, assay_ids=torch.tensor([1, 2, 0, 1])).loss.backward()
        sizes = model.assay_embedding.weight.grad.abs().sum(1)
        assert (sizes > 0).tolist() == [False, True, True]

    @pytest.mark.parametrize("number", [-1, 3])
    def test_that_are_not_there_are_refused(self, tiny_config, batch, number):
        with pytest.raises(DataError, match=rf"assay {number} is none of 0 to 2 \(model\.num_assays\); use 0 for"):
            make(tiny_config, num_assays=3).encode(**batch, assay_ids=torch.full((4,), number))


class TestSettings:
    def test_the_first_token_is_no_embedding(self, tiny_config):
        with pytest.raises(ConfigError, match=r"model\.pooling is 'cls', but the first token of transcriptformer"):
            make(tiny_config, pooling="cls")

    def test_plain_settings_get_the_blocks_of_the_model(self, tiny_config):
        model = TranscriptFormer.from_config(tiny_config)
        assert {layer.norm_placement for layer in model.encoder.layers} == {"stream"}

    def test_vectors_of_the_width_of_the_setting_are_read_as_they_are(self, tiny_config):
        import numpy as np

        from scmodelforge.data.types import EmbeddingSpec
        from scmodelforge.models.components import apply_embedding_spec

        model = make(tiny_config, vector_dim=5)
        apply_embedding_spec(model, EmbeddingSpec(np.ones((50, 5), np.float32), np.arange(50) > 3))
        assert isinstance(model.embedding.gene_embedding.projection, torch.nn.Identity)
        assert model.embedding.mlp.dense.in_features == 5
