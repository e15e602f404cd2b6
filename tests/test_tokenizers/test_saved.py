"""Tokenizers in a folder of their own."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers import BaseTokenizer, get_tokenizer
from scmodelforge.tokenizers.binned_expression import BinnedExpressionConfig, BinnedExpressionTokenizer
from scmodelforge.tokenizers.medians import GeneMedians
from scmodelforge.tokenizers.rank_value import RankValueConfig, RankValueTokenizer
from tests.test_tokenizers.cells import encode, make_block

GENES = [f"G{n:02d}" for n in range(12)]


def rank_value(seed: int = 0) -> RankValueTokenizer:
    vocab = GeneVocab.from_genes(GENES, name="twelve")
    medians = np.random.default_rng(seed).uniform(0.5, 3, len(vocab))
    medians[: len(vocab) - len(GENES)] = np.nan
    return RankValueTokenizer(RankValueConfig(max_genes=8), vocab, medians=GeneMedians(medians, "exact", 7))


def tokens_of(tokenizer: BaseTokenizer):
    counts = np.random.default_rng(1).poisson(1.5, (5, len(GENES))).astype(np.float32)
    made = encode(tokenizer, make_block(counts, GENES))
    return made.offsets.tolist(), made.ids.tolist(), made.values.tolist()


class TestRoundTrip:
    def test_medians_settings_and_genes_come_back(self, tmp_path):
        tokenizer = rank_value()
        tokenizer.save_pretrained(tmp_path / "new" / "folder")
        for found in (
            BaseTokenizer.from_pretrained(tmp_path / "new" / "folder"),
            RankValueTokenizer.from_pretrained(tmp_path / "new" / "folder"),
        ):
            assert isinstance(found, RankValueTokenizer)
            assert found.config == tokenizer.config
            assert found.vocab.to_dict() == tokenizer.vocab.to_dict()
            assert tokens_of(found) == tokens_of(tokenizer)

    def test_bins_come_back(self, tmp_path):
        vocab = GeneVocab.from_genes(GENES, name="twelve")
        tokenizer = get_tokenizer("binned_expression", BinnedExpressionConfig(n_bins=7, ties="upper"), vocab)
        tokenizer.save_pretrained(tmp_path)
        assert tokens_of(BinnedExpressionTokenizer.from_pretrained(tmp_path)) == tokens_of(tokenizer)

    def test_a_tokenizer_is_replaced_and_other_files_stay(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        rank_value(0).save_pretrained(tmp_path)
        rank_value(1).save_pretrained(tmp_path)
        assert tokens_of(BaseTokenizer.from_pretrained(tmp_path)) == tokens_of(rank_value(1))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "tokenizer.json", "vocab.json"]


class TestRefused:
    def test_a_folder_without_a_tokenizer(self, tmp_path):
        with pytest.raises(
            DataError, match=r"tokenizer\.json: cannot be read .* give a folder with tokenizer\.json and"
        ):
            BaseTokenizer.from_pretrained(tmp_path)

    def test_another_tokenizer_than_asked_for(self, tmp_path):
        rank_value().save_pretrained(tmp_path)
        with pytest.raises(ConfigError, match="holds tokenizer 'rank_value', not 'binned_expression'; read it with"):
            BinnedExpressionTokenizer.from_pretrained(tmp_path)

    def test_a_vocabulary_of_another_tokenizer(self, tmp_path):
        rank_value().save_pretrained(tmp_path)
        GeneVocab.from_genes([*GENES[:-1], "OTHER"], name="other").save(tmp_path / "vocab.json")
        with pytest.raises(DataError, match=r"fitted with other genes .* from the same folder"):
            BaseTokenizer.from_pretrained(tmp_path)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{", "not readable as JSON"),
            ("[]", "does not say which tokenizer"),
            ('{"config": {}}', "does not say which"),
        ],
    )
    def test_a_damaged_file(self, tmp_path, text, words):
        rank_value().save_pretrained(tmp_path)
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(DataError, match=words):
            BaseTokenizer.from_pretrained(tmp_path)

    def test_a_tokenizer_that_is_not_registered(self, tmp_path):
        rank_value().save_pretrained(tmp_path)
        state = json.loads((tmp_path / "tokenizer.json").read_text())
        (tmp_path / "tokenizer.json").write_text(json.dumps({**state, "strategy": "rank_valu"}))
        with pytest.raises(ConfigError, match="rank_value"):
            BaseTokenizer.from_pretrained(tmp_path)

    def test_a_place_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match=r"the tokenizer cannot be written .* name another folder"):
            rank_value().save_pretrained(tmp_path / "file")
