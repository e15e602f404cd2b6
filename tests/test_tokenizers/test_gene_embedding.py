from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers import get_tokenizer
from scmodelforge.tokenizers.binned_expression import BinnedExpressionConfig
from scmodelforge.tokenizers.gene_embedding import GeneEmbeddingConfig, GeneEmbeddingTokenizer

from .cells import VOCAB, cell, encode, make_block

NAMES = [f"g{i:02d}" for i in range(20)]
VECTORS = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
COUNTS = np.random.default_rng(1).poisson(2.0, (5, 20))


def saved(path: Path, genes: list[str] = NAMES, vectors: np.ndarray | None = None) -> Path:
    vectors = VECTORS[: len(genes)] if vectors is None else vectors
    np.savez(path, genes=np.array(genes), vectors=vectors)
    return path


@pytest.fixture
def path(tmp_path) -> Path:
    return saved(tmp_path / "esm.npz")


def embedding(path: Path, vocab: GeneVocab = VOCAB, **options: Any) -> GeneEmbeddingTokenizer:
    options = {"base": {"strategy": "binned_expression", "n_bins": 7}} | options
    return GeneEmbeddingTokenizer(GeneEmbeddingConfig(path=str(path), **options), vocab)


class TestTokens:
    @pytest.mark.parametrize(
        "base",
        [
            {"strategy": "rank_value", "medians": "none"},
            {"strategy": "binned_expression", "n_bins": 7, "ties": "random"},
            {"strategy": "continuous_projection", "value_transform": "counts", "selection": "top"},
        ],
    )
    def test_are_those_of_the_base(self, base, path):
        from scmodelforge._registry import TOKENIZERS

        tokenizer = embedding(path, base=base, max_genes=9)
        own: Any = TOKENIZERS.get(base["strategy"])
        expected = own(own.config_class.model_validate({**base, "max_genes": 9}), VOCAB)
        block = make_block(COUNTS, NAMES)
        found, wanted = encode(tokenizer, block), encode(expected, block)
        for number in range(5):
            assert cell(found, number) == cell(wanted, number)
        one = tokenizer.tokenize(COUNTS[0], NAMES, key=3)
        assert one.keys() == expected.tokenize(COUNTS[0], NAMES, key=3).keys()
        for fact in ("expects", "provides", "normalizes"):
            assert getattr(tokenizer, fact) == getattr(expected, fact)

    def test_of_the_base_are_fitted_through_it(self, path):
        tokenizer = embedding(path, base="rank_value")
        visitor = tokenizer.visitor(lambda positions: np.ones(len(positions), dtype=bool))
        visitor.update(make_block(COUNTS, NAMES))
        visitor.finish()
        assert tokenizer.maker.medians.num_cells == 5
        assert embedding(path).visitor(lambda positions: positions >= 0) is not None


class TestVectors:
    def test_stand_at_the_tokens_of_their_genes_under_any_name(self, tmp_path):
        vocab = GeneVocab.from_name("human_protein_coding").restrict(
            ["ENSG00000141510", "ENSG00000146648", "ENSG00000012048"]
        )  # EGFR, TP53 and BRCA1 by another order
        path = saved(tmp_path / "v.npz", ["EGFR", "ENSG00000141510.18", "BRCA1"])
        spec = embedding(path, vocab).embedding_spec()
        for name, row in (("EGFR", 0), ("TP53", 1), ("BRCA1", 2)):
            np.testing.assert_array_equal(spec.vectors[vocab.map([name])[0]], VECTORS[row])
        assert spec.known.tolist() == [False] * 4 + [True] * 3
        assert not spec.vectors[:4].any()

    @pytest.mark.parametrize(("symbol", "gene"), [("TP53", "ENSG00000141510"), ("A1BG", "ENSG00000121410")])
    def test_of_one_gene_under_two_names_are_that_of_its_id(self, tmp_path, caplog, symbol, gene):
        vocab = GeneVocab.from_name("human_protein_coding").restrict([gene])
        for genes, row in (([symbol, gene], 1), ([gene, symbol], 0)):
            spec = embedding(saved(tmp_path / "v.npz", genes), vocab).embedding_spec()
            np.testing.assert_array_equal(spec.vectors[4], VECTORS[row])
        assert "1 vectors are of genes that have one under another name" in caplog.text

    def test_may_be_divided_by_their_norm(self, path):
        spec = embedding(path, normalize="l2").embedding_spec()
        expected = VECTORS / np.sqrt((VECTORS.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(spec.vectors[4:], expected, rtol=1e-5)

    @pytest.mark.parametrize("trainable", [True, False])
    def test_are_trained_if_asked(self, trainable, path):
        assert embedding(path, trainable=trainable).embedding_spec().trainable == trainable

    def test_come_with_the_use_of_values_that_the_base_asks_for(self, path):
        base = {"strategy": "continuous_projection", "embedding": "auto_bins", "num_auto_bins": 9}
        spec = embedding(path, base=base).embedding_spec()
        assert (spec.values, spec.num_auto_bins) == ("auto_bins", 9)
        assert embedding(path).embedding_spec().values is None


class TestMissing:
    @pytest.fixture
    def path(self, tmp_path) -> Path:
        return saved(tmp_path / "few.npz", NAMES[5:17])

    def test_are_learned(self, path):
        spec = embedding(path).embedding_spec()
        assert np.flatnonzero(spec.known).tolist() == list(range(9, 21))

    def test_are_zero(self, path):
        spec = embedding(path, missing="zero").embedding_spec()
        assert spec.known.tolist() == [False] * 4 + [True] * 20
        assert not spec.vectors[:9].any()
        assert not spec.vectors[21:].any()

    def test_have_no_token(self, path):
        tokenizer = embedding(path, missing="drop")
        assert tokenizer.vocab.genes == NAMES[5:17]
        spec = tokenizer.embedding_spec()
        np.testing.assert_array_equal(spec.vectors[4:], VECTORS[:12])
        assert spec.known.tolist() == [False] * 4 + [True] * 12
        tokens = encode(tokenizer, make_block(np.ones((1, 20)), NAMES))
        assert cell(tokens, 0)[0] == [VOCAB.cls_id, *range(4, 16)]

    def test_are_counted_in_the_description(self, path):
        assert embedding(path).describe() == (
            "gene_embedding: 12 of 20 genes (60.0%) have vectors of width 6 from few.npz, frozen, the others learned; "
            "tokens: binned_expression, at most 2048 tokens; 7 quantile bins a cell, ties: mid".replace("2048", "2,048")
        )
        assert "12 of 12 genes (100.0%) have vectors of width 6 from few.npz, trained along; tokens:" in (
            embedding(path, missing="drop", trainable=True).describe()
        )

    def test_are_warned_of_when_they_are_most(self, tmp_path, caplog):
        with caplog.at_level(logging.WARNING):
            embedding(saved(tmp_path / "v.npz", NAMES[:10]))
        assert not caplog.messages
        embedding(saved(tmp_path / "v.npz", NAMES[:9]))
        assert "9 of the 20 genes of gene_vocab 'twenty' (45.0%) have a vector; check the species" in caplog.text

    def test_are_refused_when_they_are_nearly_all(self, tmp_path):
        vocab = GeneVocab.from_genes([f"m{i:03d}" for i in range(300)], name="three hundred")
        path = saved(tmp_path / "v.npz", ["m000", "m001", *NAMES[:18]])
        words = r"2 of the 300 genes .* \(0\.7%\) have a vector; its genes are named like 'm000', the vocabulary's like"
        with pytest.raises(DataError, match=words):
            embedding(path, vocab)


class TestVectorsThatTellNothing:
    def test_are_refused_if_all_are_alike(self, tmp_path):
        path = saved(tmp_path / "v.npz", vectors=np.tile(np.arange(6.0), (20, 1)))
        with pytest.raises(DataError, match=r"all its genes have \(almost\) the same vector, which tells nothing"):
            embedding(path)

    def test_count_as_missing_if_their_numbers_are_equal(self, tmp_path, caplog):
        vectors = VECTORS.copy()
        vectors[3], vectors[7] = 0, 2.5
        tokenizer = embedding(saved(tmp_path / "v.npz", vectors=vectors))
        assert np.flatnonzero(~tokenizer.embedding_spec().known).tolist() == [0, 1, 2, 3, 7, 11]
        assert "2 genes have a vector of equal numbers, which is taken for none" in caplog.text


class TestSaving:
    def test_a_tokenizer_is_made_again_without_the_file(self, path):
        tokenizer = embedding(path, missing="learn", normalize="l2")
        state, arrays = json.loads(json.dumps(tokenizer.to_dict())), tokenizer.arrays()
        path.unlink()
        again = GeneEmbeddingTokenizer.from_dict(state, VOCAB, arrays)
        np.testing.assert_array_equal(again.embedding_spec().vectors, tokenizer.embedding_spec().vectors)
        assert again.to_dict() == tokenizer.to_dict()
        assert again.describe() == tokenizer.describe()
        assert cell(encode(again, make_block(COUNTS, NAMES)), 2) == cell(
            encode(tokenizer, make_block(COUNTS, NAMES)), 2
        )

    def test_one_that_dropped_genes_goes_with_its_smaller_vocabulary(self, tmp_path):
        tokenizer = embedding(saved(tmp_path / "v.npz", NAMES[5:17]), missing="drop")
        state, arrays = tokenizer.to_dict(), tokenizer.arrays()
        again = GeneEmbeddingTokenizer.from_dict(state, tokenizer.vocab, arrays)
        assert again.vocab.genes == NAMES[5:17]
        with pytest.raises(DataError, match="fitted with other genes"):
            GeneEmbeddingTokenizer.from_dict(state, VOCAB, arrays)

    @pytest.mark.parametrize("part", ["vectors", "tokens"])
    def test_changed_vectors_are_refused(self, part, path):
        tokenizer = embedding(path)
        arrays = {name: array.copy() for name, array in tokenizer.arrays().items()}
        arrays[part][0] = arrays[part][0] + 1
        with pytest.raises(
            DataError, match=r"vectors of tokenizer\.safetensors are not those tokenizer\.json was saved"
        ):
            GeneEmbeddingTokenizer.from_dict(tokenizer.to_dict(), VOCAB, arrays)

    def test_missing_vectors_are_refused(self, path):
        with pytest.raises(DataError, match=r"tokenizer\.safetensors is missing or has no vectors"):
            GeneEmbeddingTokenizer.from_dict(embedding(path).to_dict(), VOCAB)

    def test_a_damaged_state_is_refused(self, path):
        tokenizer = embedding(path)
        with pytest.raises(DataError, match="'gene_embedding' is damaged: vectors: incomplete"):
            GeneEmbeddingTokenizer.from_dict(tokenizer.to_dict() | {"vectors": {}}, VOCAB, tokenizer.arrays())


class TestSettings:
    def test_the_base_may_be_a_name(self, path):
        assert GeneEmbeddingConfig(path="x", base="binned_expression").base == {"strategy": "binned_expression"}
        assert GeneEmbeddingConfig(path="x").base == {"strategy": "rank_value"}

    @pytest.mark.parametrize(
        ("base", "words"),
        [
            ("gene_embedding", r"base\.strategy is 'gene_embedding'; it must be the name of another tokenizer"),
            ({"n_bins": 3}, r"base\.strategy is None; it must be the name"),
            ("rank_valu", r"unknown tokenizer 'rank_valu'\. Did you mean 'rank_value'\?"),
            ({"strategy": "binned_expression", "n_bin": 3}, r"'tokenizer\.base\.n_bin' of .* Did you mean 'n_bins'\?"),
            ({"strategy": "binned_expression", "n_bins": "3"}, r"tokenizer\.base\.n_bins: Input should be a valid int"),
            ({"strategy": "rank_value", "max_genes": 9}, r"base\.max_genes is set; set tokenizer\.max_genes instead"),
        ],
    )
    def test_mistakes_below_the_base_are_named(self, base, words):
        with pytest.raises(ValueError, match=words):
            GeneEmbeddingConfig(path="x", base=base)

    def test_settings_of_another_tokenizer_have_no_vectors(self):
        with pytest.raises(ValueError, match=r"do not fit tokenizer 'gene_embedding': tokenizer\.path: Field required"):
            get_tokenizer("gene_embedding", BinnedExpressionConfig(n_bins=51), VOCAB)
