from __future__ import annotations

import doctest
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import TOKENIZERS
from scmodelforge.config.schema import TokenizerConfig
from scmodelforge.data.draws import uniforms
from scmodelforge.data.protocols import BlockEncoder
from scmodelforge.data.types import CellBlock, Panel, TokenBlock
from scmodelforge.tokenizers import BaseTokenizer, get_tokenizer, list_tokenizers, register_tokenizer
from scmodelforge.tokenizers.rank_value import RankValueConfig, RankValueTokenizer

from .cells import VOCAB, cell, encode, make_block

NAMES = [f"g{i:02d}" for i in range(20)]


@pytest.fixture
def registry(monkeypatch):
    """Forget what a test registers."""
    list_tokenizers()  # the built-in ones are to stay
    monkeypatch.setattr(TOKENIZERS, "_parts", dict(TOKENIZERS._parts))


class Shuffled(BaseTokenizer):
    """Only ``tokenize``: genes in an order drawn for the cell, padded to the full length, with bins."""

    provides: ClassVar[frozenset[str]] = frozenset({"input_ids", "values", "bin_ids"})

    def tokenize(self, expression, gene_ids, *, key=0):
        tokens, values = self.expressed(expression, gene_ids)
        order = np.argsort(uniforms(np.uint64(key), "order", tokens))[: self.config.max_genes]
        padding = (0, self.config.max_genes - len(order))
        return {
            "input_ids": np.pad(tokens[order], padding),
            "attention_mask": np.pad(np.ones(len(order)), padding),
            "values": np.pad(values[order], padding, constant_values=-1),
            "bin_ids": np.pad(np.minimum(values[order], 3), padding),
        }


class Returning(BaseTokenizer):
    """Returns whatever the test says."""

    result: ClassVar[dict] = {}

    def tokenize(self, expression, gene_ids, *, key=0):
        return self.result


class TestOneMethodIsEnough:
    @given(st.integers(0, 10_000), st.integers(0, 6), st.integers(2, 8))
    def test_blocks_equal_single_cells(self, seed, cells, max_genes):
        counts = np.random.default_rng(seed).poisson(0.5, (cells, 20))
        tokenizer = Shuffled(TokenizerConfig(max_genes=max_genes), VOCAB)
        block = make_block(counts, NAMES, first=5)
        keys = np.arange(cells, dtype=np.uint64) + np.uint64(2**63)
        tokens = tokenizer.bind(block.panel).encode(block, keys)
        assert tokens.cell_index.tolist() == block.positions.tolist()
        assert tokens.keys.tolist() == keys.tolist()
        for number, row in enumerate(counts):
            one = tokenizer.tokenize(row, NAMES, key=int(keys[number]))
            real = one["attention_mask"] == 1
            own = slice(tokens.offsets[number], tokens.offsets[number + 1])
            assert tokens.ids[own].tolist() == one["input_ids"][real].tolist()
            assert tokens.values[own].tolist() == one["values"][real].tolist()
            assert tokens.bin_ids[own].tolist() == one["bin_ids"][real].tolist()

    def test_types_are_those_of_a_token_block(self):
        tokens = encode(Shuffled(TokenizerConfig(), VOCAB), make_block([[1, 2]], NAMES[:2]))
        assert (tokens.offsets.dtype, tokens.ids.dtype) == (np.int64, np.int32)
        assert (tokens.values.dtype, tokens.bin_ids.dtype) == (np.float32, np.int32)

    def test_tokenizers_are_block_encoders(self):
        assert isinstance(Shuffled(TokenizerConfig(), VOCAB), BlockEncoder)

    def test_a_column_stored_twice_is_summed(self):
        panel = Panel(np.array(["g00"], dtype=object), "f")
        block = CellBlock(np.ones(2, np.float32), np.zeros(2, np.int32), np.array([0, 2]), panel, np.zeros(1, np.int64))
        assert cell(encode(Shuffled(TokenizerConfig(), VOCAB), block), 0) == ([4], [2.0])

    def test_settings_survive(self):
        tokenizer = Shuffled(TokenizerConfig(max_genes=7), VOCAB)
        assert Shuffled.from_dict(tokenizer.to_dict(), VOCAB).config == tokenizer.config
        assert tokenizer.visitor(lambda positions: positions >= 0) is None
        assert tokenizer.embedding_spec() is None
        assert tokenizer.describe() == "unregistered, at most 7 tokens"
        with pytest.raises(
            DataError, match=r"tokenizer 'unregistered' is damaged: config\.depth: .*; take it as it was"
        ):
            Shuffled.from_dict({"config": {"depth": 1}}, VOCAB)
        with pytest.raises(DataError, match=r"has no vocab_digest; its to_dict\(\) must extend super\(\).to_dict\(\)"):
            Shuffled.from_dict({"config": tokenizer.to_dict()["config"]}, VOCAB)
        fewer = VOCAB.restrict(VOCAB.genes[1:])
        with pytest.raises(DataError, match="was fitted with other genes than gene_vocab"):
            Shuffled.from_dict(tokenizer.to_dict(), fewer)

    def test_the_example_in_the_documentation_works(self, registry):
        example = doctest.DocTestFinder(recurse=False).find(BaseTokenizer, globs={})[0]
        assert len(example.examples) == 3
        result = doctest.DocTestRunner().run(example, clear_globs=False)
        assert result.failed == 0
        tokens = encode(
            get_tokenizer("by_name", TokenizerConfig(max_genes=2), VOCAB), make_block([[1, 2, 0, 3]], NAMES[:4])
        )
        assert cell(tokens, 0) == ([4, 5], [1.0, 2.0])

    @pytest.mark.parametrize(
        ("result", "words"),
        [
            (
                {"input_ids": [5], "values": [1.0]},
                "returned no 'attention_mask'; it must return attention_mask, input_ids",
            ),
            ({"input_ids": [5], "attention_mask": [1]}, "returned no 'values'"),
            (
                {"input_ids": [5, 6], "attention_mask": [1, 1], "values": [1.0]},
                r"input_ids \(2,\), values \(1,\); all must have shape \(tokens,\)",
            ),
            ({"input_ids": [[5]], "attention_mask": [[1]], "values": [[1.0]]}, r"input_ids \(1, 1\)"),
            (
                {"input_ids": [24], "attention_mask": [1], "values": [1.0]},
                "token id 24, but the vocabulary has ids 0 to 23",
            ),
            ({"input_ids": [-1], "attention_mask": [1], "values": [1.0]}, "token id -1, .* leave unknown genes out"),
            (
                {"input_ids": [5, 6, 7], "attention_mask": [1, 1, 1], "values": [0, 0, 0]},
                r"returned 3 tokens, more than tokenizer\.max_genes \(2\); cut the sequence",
            ),
        ],
    )
    def test_what_is_no_sequence_is_refused(self, result, words, monkeypatch):
        monkeypatch.setattr(Returning, "result", result)
        with pytest.raises(ConfigError, match=words):
            encode(Returning(TokenizerConfig(max_genes=2), VOCAB), make_block([[1]], ["g00"]))


class TestMeasured:
    def test_genes_a_tokenizer_leaves_out_are_said_to_be_cut(self):
        counts = np.random.default_rng(0).poisson(0.8, (6, 20))
        counts[2] = 0
        tokens = encode(Shuffled(TokenizerConfig(max_genes=4), VOCAB), make_block(counts, NAMES))
        known = tokens.measured
        for number, row in enumerate(counts):
            cut = known.cut_ids[known.cut_offsets[number] : known.cut_offsets[number + 1]].tolist()
            assert len(cut) == max(0, np.count_nonzero(row) - 4)
            assert sorted([*cell(tokens, number)[0], *cut]) == (np.flatnonzero(row) + 4).tolist()

    def test_the_genes_of_the_file_are_known_and_shared_by_its_blocks(self):
        tokenizer, genes = Shuffled(TokenizerConfig(), VOCAB), ["g07", "unknown", "g02", "g07"]
        block = make_block([[0, 9, 0, 0], [1, 1, 1, 1]], genes)
        encoder = tokenizer.bind(block.panel)
        blocks = [encoder.encode(block.select(rows), np.zeros(len(rows), np.uint64)) for rows in ([0, 1], [1])]
        assert [panel.tolist() for panel in blocks[0].measured.panels] == [[6, 11]]
        assert blocks[0].measured.panel_index.tolist() == [0, 0]
        assert len(TokenBlock.concatenate(blocks).measured.panels) == 1

    def test_a_gene_shown_without_expression_is_not_cut(self, monkeypatch):
        shown = {"input_ids": [5, 4, 9], "attention_mask": [1, 1, 0], "values": [0.0, 1.0, 0.0]}
        monkeypatch.setattr(Returning, "result", shown)
        tokens = encode(Returning(TokenizerConfig(), VOCAB), make_block([[1, 0, 2, 0, 0, 3]], NAMES[:6]))
        assert tokens.measured.cut_ids.tolist() == [6, 9]  # 9 stands in the padding only

    def test_no_cells_have_nothing_cut(self):
        known = encode(Shuffled(TokenizerConfig(), VOCAB), make_block(np.zeros((0, 3)), NAMES[:3])).measured
        assert (known.cut_offsets.tolist(), len(known.cut_ids), len(known.panel_index)) == ([0], 0, 0)
        assert known.panels[0].tolist() == [4, 5, 6]


class TestLookup:
    def test_it_follows_the_genes_given(self):
        tokenizer = Shuffled(TokenizerConfig(), VOCAB)
        ids = np.array(["g03", "unknown"], dtype=object)
        assert tokenizer.lookup(ids).tolist() == [7, -1]
        ids[1] = "g00"
        assert tokenizer.lookup(ids).tolist() == [7, 4]
        assert tokenizer.lookup(["g01"]).tolist() == [5]

    def test_genes_are_looked_up_once_for_many_cells(self, monkeypatch):
        calls = []
        tokenizer = Shuffled(TokenizerConfig(), VOCAB)
        known = VOCAB.map
        monkeypatch.setattr(VOCAB, "map", lambda ids: calls.append(1) or known(ids))
        encode(tokenizer, make_block(np.ones((5, 20)), NAMES))
        assert len(calls) == 1

    def test_expressed_genes_are_summed_and_in_token_order(self):
        tokens, values = Shuffled(TokenizerConfig(), VOCAB).expressed(
            [1, 2, 3, 0, 4], ["g05", "no", "g01", "g02", "g05"]
        )
        assert tokens.tolist() == [5, 9]
        assert values.tolist() == [3.0, 5.0]
        assert Shuffled(TokenizerConfig(), VOCAB).expressed([1, 2], ["g05", "g01"])[0].tolist() == [5, 9]


class TestRegistry:
    def test_built_in_tokenizers_are_found_by_name(self):
        assert "rank_value" in list_tokenizers()
        tokenizer = get_tokenizer("rank_value", TokenizerConfig(max_genes=5), VOCAB)
        assert isinstance(tokenizer, RankValueTokenizer)
        assert tokenizer.config == RankValueConfig(max_genes=5)
        assert tokenizer.strategy == "rank_value"

    def test_a_name_is_taken_once(self, registry):
        with pytest.raises(ValueError, match="tokenizer 'rank_value' is already registered"):
            register_tokenizer("rank_value")(Shuffled)
        assert Shuffled.strategy == "unregistered"

    def test_a_registered_class_knows_its_name(self, registry):
        class Own(Shuffled):
            pass

        assert register_tokenizer("own")(Own) is Own
        tokenizer = get_tokenizer("own", TokenizerConfig(), VOCAB)
        assert (tokenizer.strategy, tokenizer.config.strategy) == ("own", "own")

    def test_an_unknown_name_is_refused_with_the_nearest(self):
        with pytest.raises(ConfigError, match=r"unknown tokenizer 'rank_values'\. Did you mean 'rank_value'"):
            get_tokenizer("rank_values", TokenizerConfig(), VOCAB)

    def test_settings_of_another_tokenizer_are_refused(self):
        settings = RankValueConfig(add_cls=False)
        assert Shuffled(RankValueConfig(), VOCAB).config == RankValueConfig()

        class OtherConfig(TokenizerConfig):
            num_bins: int = 5

        class Other(Shuffled):
            config_class = OtherConfig

        assert Other(RankValueConfig(max_genes=9), VOCAB).config == OtherConfig(max_genes=9)
        with pytest.raises(ConfigError, match=r"has no setting 'tokenizer\.add_cls' \(it is False\); remove it"):
            Other(settings, VOCAB)

    def test_settings_a_tokenizer_needs_are_asked_for(self):
        class NeedyConfig(TokenizerConfig):
            size: int

        class Needy(Shuffled):
            config_class = NeedyConfig

        with pytest.raises(ConfigError, match=r"do not fit tokenizer 'unregistered': tokenizer\.size: Field required"):
            Needy(TokenizerConfig(), VOCAB)
