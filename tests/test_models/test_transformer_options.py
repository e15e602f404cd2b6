"""What holds for the transformers with every option of the core."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from scmodelforge._errors import ConfigError
from scmodelforge._registry import MODELS
from scmodelforge.data.types import CellBlock, EmbeddingSpec, Panel
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.models import get_model
from scmodelforge.models.components import apply_embedding_spec
from scmodelforge.models.transformer_encoder import TransformerEncoderConfig
from scmodelforge.objectives.masked_value import MaskedValuePrediction
from scmodelforge.tokenizers.continuous_projection import ContinuousProjectionConfig, ContinuousProjectionTokenizer
from tests.test_models.batches import batch_for

TRANSFORMERS = ("autoregressive_transformer", "masked_autoencoder", "scgpt", "transformer_encoder")
SHARED: list[dict[str, Any]] = [
    {"norm_placement": "post"},
    {"norm": "rms_norm"},
    {"activation": "swiglu"},
    {"activation_checkpointing": True},
    {"attention_dropout": 0.5},
]
ENCODER: list[dict[str, Any]] = [
    {"positions": "rotary"},
    {"positions": "none"},
    {"tied_head": True},
    {"head_activation": "relu"},
    {"norm_placement": "post", "norm": "rms_norm", "positions": "rotary", "tied_head": True, "activation": "swiglu"},
]
CASES = [(name, options) for name in TRANSFORMERS for options in SHARED]
CASES = [case for case in CASES if case != ("scgpt", {"norm_placement": "post"})]  # which is its default
CASES += [("scgpt", {"norm_placement": "pre"}), ("scgpt", {"activation": "gelu"})]
CASES += [("transformer_encoder", options) for options in ENCODER]
CASES += [("autoregressive_transformer", {"gene_target": "set"})]


def made(name: str, tiny_config, **options: Any) -> torch.nn.Module:
    settings = {**tiny_config.model_dump(exclude_unset=True), "architecture": name, **options}
    torch.manual_seed(0)
    return get_model(name, MODELS.get(name).config_class(**settings))


@pytest.fixture(params=CASES, ids=str)
def case(request, tiny_config, dummy_batch):
    """Return a model with an option, its name and a batch."""
    name, options = request.param
    return made(name, tiny_config, **options), name, batch_for(name, dummy_batch)


class TestEveryOption:
    def test_trains_all_weights(self, case):
        model, _, batch = case
        loss = model.train()(**batch, return_logits=False).loss
        loss.backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
        assert loss > 0

    def test_changes_the_model_unless_it_only_saves_memory(self, case, request, tiny_config):
        model, name, batch = case
        plain, found = made(name, tiny_config), []
        for each in (model, plain):
            for number, parameter in enumerate(each.parameters()):
                torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(number))
            torch.manual_seed(1)
            found.append(each.train()(**batch, return_logits=False).loss)
        assert torch.equal(*found) is ("activation_checkpointing" in request.node.name)

    def test_padding_and_what_stands_there_change_nothing(self, case):
        model, _, batch = case
        model.eval()
        ids, mask, values = (batch[key] for key in ("input_ids", "attention_mask", "values"))
        more = torch.nn.functional.pad
        longer = model.encode(more(ids, (0, 3), value=7), more(mask, (0, 3)), more(values, (0, 3), value=float("nan")))
        torch.testing.assert_close(longer, model.encode(ids, mask, values), rtol=1e-5, atol=1e-5)

    def test_is_the_same_after_saving_and_loading(self, case, tmp_path):
        from safetensors.torch import load_file, save_file

        model, _, batch = case
        save_file(model.state_dict(), tmp_path / "weights.safetensors")
        other = copy.deepcopy(model)
        for parameter in other.parameters():
            torch.nn.init.normal_(parameter)
        other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        ids, mask, values = (batch[key] for key in ("input_ids", "attention_mask", "values"))
        assert torch.equal(other.eval().encode(ids, mask, values), model.eval().encode(ids, mask, values))

    def test_gives_hidden_states_and_attention_maps_if_asked(self, case):
        model, _, batch = case
        model.eval()
        plain = model(**batch)
        assert (plain.hidden_states, plain.attentions) == (None, None)
        out = model(**batch, output_hidden_states=True, output_attentions=True)
        assert len(out.hidden_states) == len(out.attentions) + 1 == 3
        assert all(state.shape == (4, out.hidden_states[0].shape[1], 16) for state in out.hidden_states)
        assert all(torch.allclose(each.sum(-1), torch.ones(())) for each in out.attentions)
        torch.testing.assert_close(out.loss, plain.loss)


class TestCounts:
    """``value_loss: zero_truncated_poisson``, on tokens with counts."""

    @pytest.fixture
    def batch(self):
        vocab = GeneVocab.from_genes([f"g{i:02d}" for i in range(46)], name="test")
        config = ContinuousProjectionConfig(value_transform="counts", max_genes=12, masking={"mode": "value"})
        tokenizer = ContinuousProjectionTokenizer(config, vocab)
        counts = np.random.default_rng(0).poisson(1.5, (4, 46)).astype(np.float32)
        rows, columns = np.nonzero(counts)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows))]).astype(np.int64)
        panel = Panel(np.array(vocab.genes, dtype=object), "cells")
        block = CellBlock(counts[rows, columns], columns.astype(np.int32), indptr, panel, np.arange(4))
        tokens = tokenizer.bind(panel).encode(block, np.arange(4, dtype=np.uint64))
        model = TransformerEncoderConfig(value_loss="zero_truncated_poisson", max_seq_len=16)
        return MaskedValuePrediction(vocab=vocab, tokenizer_config=config, model_config=model)(tokens)

    def test_the_loss_is_their_mean_surprise(self, tiny_config, batch):
        task = {"pretraining_task": "masked_value_prediction", "value_loss": "zero_truncated_poisson"}
        model = made("transformer_encoder", tiny_config, **task).eval()
        given = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
        is_target = given["labels"] != -100
        counts, out = given["targets"][is_target], model(**given)
        assert (counts >= 1).all()
        assert is_target.any()
        rates = out.logits[is_target].double().exp()
        chances = torch.distributions.Poisson(rates).log_prob(counts.double()) - torch.log(-torch.expm1(-rates))
        assert out.loss.item() == pytest.approx(-chances.mean().item(), rel=1e-5)
        assert torch.equal(model(**given, return_logits=False).loss, out.loss)

    def test_hidden_counts_have_a_vector_of_their_own_where_values_have_bins(self, tiny_config, batch):
        model = made("transformer_encoder", tiny_config, pretraining_task="masked_value_prediction")
        apply_embedding_spec(model, EmbeddingSpec(values="auto_bins", num_auto_bins=5))
        given = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
        assert (given["input_ids"] != 2).all()  # genes stay visible
        model.train()(**given).loss.backward()
        assert model.embedding.auto_bins.hidden_vector.grad.abs().sum() > 0


class TestPositions:
    @pytest.mark.parametrize(("positions", "is_set"), [("none", True), ("rotary", False), ("learned", False)])
    def test_decide_whether_a_cell_is_a_set(self, tiny_config, dummy_batch, positions, is_set):
        model = made("transformer_encoder", tiny_config, positions=positions, pooling="mean").eval()
        with torch.no_grad():
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.5)
        ids, values = dummy_batch["input_ids"], dummy_batch["values"]
        mask = torch.ones_like(dummy_batch["attention_mask"])
        order = torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(3))
        found, shuffled = model.encode(ids, mask, values), model.encode(ids[:, order], mask, values[:, order])
        assert torch.allclose(found, shuffled, atol=1e-4) is is_set


class TestTiedHead:
    def test_has_fewer_weights_by_the_vocabulary(self, tiny_config):
        free, tied = (made("transformer_encoder", tiny_config, tied_head=each) for each in (False, True))
        assert free.num_parameters() - tied.num_parameters() == 50 * 16

    def test_is_refused_with_given_vectors(self, tiny_config):
        vectors = torch.randn(50, 16).numpy()
        spec = EmbeddingSpec(vectors=vectors, known=vectors[:, 0] < 9)
        with pytest.raises(ConfigError, match=r"model\.tied_head is true, but the tokenizer brings gene vectors"):
            apply_embedding_spec(made("transformer_encoder", tiny_config, tied_head=True), spec)


class TestEmbeddingsOfCells:
    """What embeddings of cells are made of, by ``encode`` and ``forward`` alike."""

    @pytest.fixture
    def cells(self, dummy_batch) -> dict[str, torch.Tensor]:
        """Return cells that begin with ``<cls>``, id 1, and end with another special token; one gene is hidden."""
        ids, mask = dummy_batch["input_ids"].clone(), dummy_batch["attention_mask"]
        ids[:, 0] = 1
        ids[torch.arange(4), mask.sum(1).long() - 1] = 3
        return {"input_ids": ids, "attention_mask": mask, "values": dummy_batch["values"]}

    @pytest.mark.parametrize("placement", ["pre", "post"])
    def test_layers_are_left_out(self, tiny_config, cells, placement):
        options = {"norm_placement": placement, "num_layers": 3}
        model = made("transformer_encoder", tiny_config, **options, left_out_layers=2).eval()
        whole = made("transformer_encoder", tiny_config, **options).eval()
        shallow = made("transformer_encoder", tiny_config, norm_placement=placement, num_layers=1).eval()
        model.load_state_dict(whole.state_dict())
        shallow.load_state_dict({name: whole.state_dict()[name] for name in shallow.state_dict()})
        assert torch.equal(model.encode(**cells), shallow.encode(**cells))
        assert torch.equal(model(**cells).logits, whole(**cells).logits)

    @pytest.mark.parametrize("placement", ["pre", "post"])
    @pytest.mark.parametrize("task", ["masked_gene_prediction", "masked_value_prediction"])
    @pytest.mark.parametrize("left_out", [0, 1, 2])
    def test_forward_and_all_others_embed_as_encode_does(self, tiny_config, cells, placement, task, left_out):
        options = {"norm_placement": placement, "num_layers": 3, "pooled_tokens": "genes", "pretraining_task": task}
        model = made("transformer_encoder", tiny_config, **options, left_out_layers=left_out).eval()
        expected = model.encode(**cells)
        plain = model(**cells)
        traced = model(**cells, output_hidden_states=True, output_attentions=True)
        mapped = model(**cells, output_attentions=True)
        for found in (plain.embeddings, traced.embeddings, mapped.embeddings, model.encode_tokens(**cells)[0]):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        assert (plain.hidden_states, plain.attentions, mapped.hidden_states) == (None, None, None)
        assert [len(traced.hidden_states), len(traced.attentions), len(mapped.attentions)] == [4, 3, 3]

    def test_genes_alone_are_averaged_hidden_ones_too(self, tiny_config, cells):
        model = made("transformer_encoder", tiny_config, pooled_tokens="genes").eval()
        states = model(**cells, output_hidden_states=True).hidden_states[-1]
        for row, length in enumerate(cells["attention_mask"].sum(1).long()):
            torch.testing.assert_close(model.encode(**cells)[row], states[row, 1 : length - 1].mean(0))

    def test_a_cell_without_genes_is_zero(self, tiny_config):
        model = made("transformer_encoder", tiny_config, pooled_tokens="genes").eval()
        found = model.encode(torch.tensor([[1, 3], [1, 9]]), torch.ones(2, 2))
        assert (found[0] == 0).all()
        assert (found[1] != 0).any()

    def test_all_layers_cannot_be_left_out(self, tiny_config):
        with pytest.raises(ConfigError, match=r"model\.left_out_layers is 2, of 2 layers; leave at least one"):
            made("transformer_encoder", tiny_config, left_out_layers=2)

    def test_what_the_first_token_stands_for_is_not_averaged(self, tiny_config):
        config = TransformerEncoderConfig(pooled_tokens="genes", pooling="cls")
        assert config.unread_settings == {"pooled_tokens": "without model.pooling 'mean'"}
        assert TransformerEncoderConfig(pooled_tokens="genes", pooling="mean").unread_settings == {}
