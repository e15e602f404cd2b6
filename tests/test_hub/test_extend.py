"""More genes for a trained model: rows are added, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import MODELS, TOKENIZERS
from scmodelforge.config.schema import ModelConfig, PreprocessingConfig
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.types import CellBlock, EmbeddingSpec, Panel
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.hub import Bundle, extend_vocabulary, load_bundle, save_bundle
from scmodelforge.hub.bundle import build_model
from scmodelforge.objectives.collate import collate_for_encoding
from scmodelforge.tokenizers import get_tokenizer
from scmodelforge.tokenizers.rank_value import RankValueConfig, RankValueTokenizer
from tests.conftest import OPTIONAL_MODELS

INSTALLED = sorted({*MODELS.names()} - OPTIONAL_MODELS)
GENES = [f"g{i:02d}" for i in range(14)]
NEW = ["h00", "h01", "h02"]
VECTORS = Path()
LAST = {"<pad>": 14, "<unk>": 15, "<mask>": 16, "<cls>": 17}


@pytest.fixture(autouse=True, scope="module")
def _vectors(tmp_path_factory):
    """A file of vectors for all old genes but one."""
    global VECTORS
    VECTORS = tmp_path_factory.mktemp("vectors")
    vectors = np.random.default_rng(2).normal(size=(len(GENES) - 1, 6)).astype(np.float32)
    np.savez(VECTORS / "vectors.npz", genes=np.array(GENES[1:]), vectors=vectors)


def cells(genes: list[str]) -> CellBlock:
    """Return five cells that express some of the genes."""
    counts = np.random.default_rng(1).poisson(1.0, (5, len(genes))).astype(np.float32)
    counts[:, 0] = 3
    rows, columns = np.nonzero(counts)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=5))]).astype(np.int64)
    return CellBlock(
        counts[rows, columns], columns, indptr, Panel(np.array(genes, dtype=object), "cells.h5ad"), np.arange(5)
    )


def make_bundle(
    architecture: str = "transformer_encoder", strategy: str = "binned_expression", special: dict | None = None
) -> Bundle:
    vocab = GeneVocab(GENES, name="test", special_tokens=special)
    settings: dict = {"max_genes": 12}
    if strategy == "gene_embedding":
        settings["path"] = str(VECTORS / "vectors.npz")
    if (architecture, strategy) == ("transcriptformer", "continuous_projection"):
        settings |= {"embedding": "attention_bias", "value_transform": "counts"}  # its only use of values
    tokenizer = get_tokenizer(strategy, TOKENIZERS.get(strategy).config_class(**settings), vocab)
    visitor = tokenizer.visitor(lambda positions: np.ones(len(positions), dtype=bool))
    if visitor is not None:
        visitor.update(cells(GENES))
        visitor.finish()
    config = getattr(MODELS.get(architecture), "config_class", ModelConfig)(
        architecture=architecture, vocab_size=len(vocab), hidden_dim=16, num_layers=2, num_heads=2, decoder_layers=1,
        max_seq_len=12,
    )  # fmt: skip
    if architecture == "fine_tuned":  # whose head needs to know how many there are
        config.num_cell_types = 3
    torch.manual_seed(0)
    model = build_model(config, tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():  # as after training: no row has its first values
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Bundle(
        model=model.eval(),
        model_config=config,
        tokenizer=tokenizer,
        vocab=vocab,
        preprocessor=Preprocessor(PreprocessingConfig()),
        objective=model.default_objective,
        fingerprint={"config_hash": "0" * 64, "step": 7},
    )


def batch_of(bundle: Bundle, genes: list[str]) -> dict:
    block = cells(genes)
    tokens = bundle.tokenizer.bind(block.panel).encode(block, np.arange(5, dtype=np.uint64))
    return collate_for_encoding(tokens, pad_id=bundle.vocab.pad_id)


def outputs(bundle: Bundle, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        return bundle.model.encode(**batch), bundle.model(**batch).logits


@pytest.mark.parametrize("special", [None, LAST], ids=["first", "last"])
@pytest.mark.parametrize(
    ("architecture", "strategy"),
    [  # ScDiVa has no place for gene vectors
        (architecture, strategy)
        for architecture in INSTALLED
        for strategy in TOKENIZERS.names()
        if (architecture, strategy) != ("scdiva", "gene_embedding")
    ],
)
class TestEveryModelAndTokenizer:
    def test_cells_without_new_genes_have_the_same_outputs(self, architecture, strategy, special):
        before = make_bundle(architecture, strategy, special)
        after = extend_vocabulary(before, NEW)
        batch = batch_of(before, GENES)
        again = batch_of(after, GENES)
        for name in ("input_ids", "attention_mask", "values"):
            assert torch.equal(batch[name], again[name]), name
        for old, new in zip(outputs(before, batch), outputs(after, again), strict=True):
            is_of_tokens = new.ndim == 3 or architecture in (
                "scdiva",
                "scdiva_diffusion",
            )  # whose logits are one for each token
            shared = new[..., : old.shape[-1]] if is_of_tokens else new
            torch.testing.assert_close(shared, old, rtol=1e-5, atol=1e-6)

    def test_it_is_saved_and_loaded_and_knows_the_new_genes(self, architecture, strategy, special, tmp_path):
        after = extend_vocabulary(make_bundle(architecture, strategy, special), NEW)
        save_bundle(tmp_path / "model", after, card="")
        loaded = load_bundle(tmp_path / "model")
        batch = batch_of(loaded, [*GENES, *NEW])
        assert bool((batch["input_ids"] >= 18).any())
        for old, new in zip(outputs(after, batch), outputs(loaded, batch), strict=True):
            assert torch.equal(old, new)
        assert loaded.vocab.genes == [*GENES, *NEW]


class TestWeights:
    @pytest.mark.parametrize("initial", ["mean", "random"])
    @pytest.mark.parametrize("architecture", INSTALLED)
    def test_all_but_the_new_rows_are_the_same_to_the_bit(self, architecture, initial):
        before = make_bundle(architecture)
        after = extend_vocabulary(before, NEW, initial=initial)
        grown = []
        for name, old in before.model.state_dict().items():
            new = after.model.state_dict()[name]
            assert torch.equal(new[tuple(slice(0, size) for size in old.shape)], old), name
            grown += [name] if new.shape != old.shape else []
            assert new.numel() == old.numel() or sum(new.shape) == sum(old.shape) + 3
        first = "encoder.gene_encoder.projection" if architecture == "scdiva" else "embedding.gene_embedding"
        assert f"{'backbone.' if architecture == 'fine_tuned' else ''}{first}.weight" in grown

    def test_new_rows_are_the_mean_of_the_genes_without_special_tokens(self):
        before = make_bundle(special=LAST)
        after = extend_vocabulary(before, NEW).model.state_dict()
        for name in ("embedding.gene_embedding.weight", "head.decoder.weight", "head.decoder.bias"):
            mean = before.model.state_dict()[name][:14].mean(0)
            torch.testing.assert_close(after[name][18:], mean.expand_as(after[name][18:]))

    def test_random_rows_differ_and_follow_from_the_seed(self):
        rows = [
            extend_vocabulary(make_bundle(), NEW, initial="random", seed=seed).model.embedding.gene_embedding.weight[
                18:
            ]
            for seed in (0, 0, 1)
        ]
        assert torch.equal(rows[0], rows[1])
        assert not torch.equal(rows[0], rows[2])
        assert not torch.equal(rows[0][0], rows[0][1])

    def test_the_model_that_was_given_is_not_changed(self):
        bundle = make_bundle()
        before = {name: weight.clone() for name, weight in bundle.model.state_dict().items()}
        state = torch.get_rng_state()
        extend_vocabulary(bundle, NEW, initial="random")
        assert torch.equal(state, torch.get_rng_state())
        assert all(torch.equal(weight, before[name]) for name, weight in bundle.model.state_dict().items())
        assert (len(bundle.vocab), bundle.model_config.vocab_size) == (18, 18)
        assert "added_genes" not in bundle.fingerprint

    def test_frozen_weights_stay_frozen_and_the_mode_stays(self):
        bundle = make_bundle()
        bundle.model.train()
        bundle.model.embedding.gene_embedding.weight.requires_grad_(False)
        after = extend_vocabulary(bundle, NEW)
        assert not after.model.embedding.gene_embedding.weight.requires_grad
        assert after.model.head.decoder.weight.requires_grad
        assert after.model.training

    def test_a_tied_head_stays_tied(self, monkeypatch):
        made = MODELS.get("gene_pooling").from_config.__func__

        def tied(cls, config):
            model = made(cls, config)
            model.head.decoder.weight = model.embedding.gene_embedding.weight
            return model

        monkeypatch.setattr(MODELS.get("gene_pooling"), "from_config", classmethod(tied))
        before = make_bundle("gene_pooling")
        after = extend_vocabulary(before, NEW).model
        assert after.head.decoder.weight is after.embedding.gene_embedding.weight
        assert torch.equal(after.head.decoder.weight[:18], before.model.head.decoder.weight)

    def test_extending_twice_is_recorded(self):
        after = extend_vocabulary(extend_vocabulary(make_bundle(), NEW[:1]), NEW)
        assert after.vocab.genes == [*GENES, *NEW]
        assert after.fingerprint["added_genes"] == NEW
        assert after.model_config.vocab_size == len(after.vocab) == 21

    def test_is_another_model(self):
        """Embeddings of the two must not be taken for those of one."""
        before = replace(make_bundle(), origin="hf://me/toy")
        ways = [("mean", 0), ("random", 0), ("random", 1)]
        same, random, other = (extend_vocabulary(before, NEW, initial=how, seed=seed) for how, seed in ways)
        again = extend_vocabulary(before, NEW, seed=1)
        ids = {each.model_id for each in (before, same, random, other)}
        assert len(ids) == 4
        assert again.model_id == same.model_id
        assert same.origin == ""
        assert same.fingerprint["extended_from"] == before.model_id


class TestState:
    def test_medians_of_old_genes_stay_and_new_ones_count_as_the_middle_one(self):
        before = make_bundle(strategy="rank_value")
        after = extend_vocabulary(before, NEW).tokenizer.medians
        assert np.array_equal(after.values[:18], before.tokenizer.medians.values, equal_nan=True)
        assert after.divisors()[18:].tolist() == [np.nanmedian(before.tokenizer.medians.values)] * 3
        assert (after.method, after.num_cells) == ("exact", 5)

    def test_given_vectors_stay_and_new_genes_learn_theirs(self, monkeypatch):
        rng = np.random.default_rng(0)
        vectors = rng.normal(size=(40, 6)).astype(np.float32)

        def spec(tokenizer) -> EmbeddingSpec:
            size = len(tokenizer.vocab)
            known = np.arange(size) < 18
            return EmbeddingSpec(vectors=vectors[:size], known=known, trainable=False)

        monkeypatch.setattr(TOKENIZERS.get("binned_expression"), "embedding_spec", spec)
        before = make_bundle()
        after = extend_vocabulary(before, NEW)
        layer = after.model.embedding.gene_embedding
        assert layer.known.tolist() == [True] * 18 + [False] * 3
        batch = batch_of(before, GENES)
        torch.testing.assert_close(outputs(after, batch)[0], outputs(before, batch)[0])
        old, new = layer(torch.arange(4, 18)), layer(torch.arange(18, 21))
        torch.testing.assert_close(new, old.mean(0).expand(3, -1))  # of what genes have, not of vectors that none uses

    def test_new_genes_have_zeros_where_the_tokenizer_says_so(self, monkeypatch):
        vectors = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
        vectors[18:] = 0

        def spec(tokenizer) -> EmbeddingSpec:
            size = len(tokenizer.vocab)
            return EmbeddingSpec(vectors=vectors[:size], known=np.ones(size, dtype=bool), trainable=False)

        monkeypatch.setattr(TOKENIZERS.get("binned_expression"), "embedding_spec", spec)
        layer = extend_vocabulary(make_bundle(), NEW).model.embedding.gene_embedding
        assert (layer(torch.arange(18, 21)) == 0).all()

    def test_ids_that_only_the_published_mapping_knows_get_new_genes_too(self):
        vocab = GeneVocab(["ENSG00000000003", "ENSG00000000005"], name="published")
        config = RankValueConfig(compat="geneformer_v1", add_cls=False, medians="none")
        tokenizer = RankValueTokenizer(config, vocab, id_mapping={"ENSG00000000003": "ENSG00000000003"})
        longer = tokenizer.extended(vocab.extended(["ENSG99999999999"]))
        found = longer.tokenize(np.array([5.0, 3.0]), ["ENSG99999999999", "ENSG00000000003"])
        assert found["input_ids"].tolist() == [6, 4]


class TestRefusals:
    def test_a_text_in_place_of_a_list(self):
        with pytest.raises(ConfigError, match="genes is the text 'NEW1'; give a list of gene ids"):
            extend_vocabulary(make_bundle(), "NEW1")

    def test_genes_it_has_already(self):
        with pytest.raises(DataError, match="'test' has all 2 genes that are to be added already"):
            extend_vocabulary(make_bundle(), GENES[:2])

    def test_another_way_to_begin(self):
        with pytest.raises(ConfigError, match="initial is 'zero'; choose 'mean' or 'random'"):
            extend_vocabulary(make_bundle(), NEW, initial="zero")

    def test_a_model_that_was_changed_after_it_was_made(self):
        bundle = make_bundle()
        bundle.model.adapter = nn.Linear(2, 2)
        with pytest.raises(ConfigError, match=r"other weights than its settings make \('adapter.bias' is in one"):
            extend_vocabulary(bundle, NEW)

    def test_weights_that_have_no_row_for_each_token(self, monkeypatch):
        made = MODELS.get("gene_pooling").from_config.__func__

        def squared(cls, config):
            model = made(cls, config)
            model.pairs = nn.Parameter(torch.zeros(config.vocab_size, config.vocab_size))
            return model

        monkeypatch.setattr(MODELS.get("gene_pooling"), "from_config", classmethod(squared))
        message = (
            r"'pairs' of shape \(18, 18\) has shape \(21, 21\) with 21 tokens in place of 18; only weights with one"
        )
        with pytest.raises(ConfigError, match=message):
            extend_vocabulary(make_bundle("gene_pooling"), NEW)
