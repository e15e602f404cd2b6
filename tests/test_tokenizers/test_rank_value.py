from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import TokenizerConfig
from scmodelforge.data.types import CellBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers import get_tokenizer
from scmodelforge.tokenizers.rank_value import RankValueConfig, RankValueTokenizer

from .cells import VOCAB, cell, encode, genes_of, make_block, make_tokenizer, reference

NAMES = [f"g{i:02d}" for i in range(20)]
MEDIANS = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 4), max_size=20)
GENE_IDS = st.lists(st.sampled_from([*NAMES, "x1", "x2", "x3"]), min_size=1, max_size=24)


@st.composite
def cells(draw):
    gene_ids = draw(GENE_IDS)
    row = st.lists(st.integers(0, 4), min_size=len(gene_ids), max_size=len(gene_ids))
    return draw(st.lists(row, min_size=1, max_size=5)), gene_ids


class TestForms:
    @given(cells(), MEDIANS, st.integers(2, 12), st.booleans())
    def test_blocks_single_cells_and_exact_arithmetic_agree(self, drawn, medians, max_genes, add_cls):
        counts, gene_ids = drawn
        tokenizer = make_tokenizer(medians, max_genes=max_genes, add_cls=add_cls)
        tokens = encode(tokenizer, make_block(np.array(counts), gene_ids))
        for number, row in enumerate(counts):
            one = tokenizer.tokenize(np.array(row), gene_ids)
            expected = reference(row, gene_ids, medians, max_genes=max_genes, add_cls=add_cls)
            assert cell(tokens, number) == expected
            assert (one["input_ids"].tolist(), one["values"].tolist()) == expected
            assert one["attention_mask"].tolist() == [1] * len(expected[0])

    @pytest.mark.parametrize("form", [np.asarray, lambda row: np.asarray(row)[None], lambda row: sp.csr_matrix([row])])
    def test_a_cell_may_be_an_array_a_row_or_sparse(self, form):
        found = make_tokenizer().tokenize(form([0, 3, 5]), NAMES[:3])
        assert found["input_ids"].tolist() == [VOCAB.cls_id, 6, 5]
        assert found["input_ids"].dtype == np.int64
        assert found["values"].dtype == np.float32

    def test_many_cells_are_tokenised_as_few(self):
        counts = np.random.default_rng(0).poisson(0.7, (600, 20))
        block = make_block(counts, NAMES)
        whole, tokenizer = encode(make_tokenizer(), block), make_tokenizer()
        for start in (0, 255, 256, 511, 512, 599):
            part = encode(tokenizer, block.select(np.arange(start, min(start + 2, 600))))
            assert cell(part, 0) == cell(whole, start)
        assert whole.cell_index.tolist() == list(range(600))
        assert whole.keys.tolist() == list(range(600))

    def test_threads_give_the_same_tokens(self):
        counts = np.random.default_rng(1).poisson(0.7, (40, 20))
        block = make_block(counts, NAMES)
        encoder = make_tokenizer().bind(block.panel)
        keys = np.zeros(40, dtype=np.uint64)
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: encoder.encode(block, keys), range(8)))
        assert all(np.array_equal(result.ids, results[0].ids) for result in results)

    def test_no_cells_give_no_tokens(self):
        tokens = encode(make_tokenizer(), make_block(np.zeros((0, 3)), NAMES[:3]))
        assert len(tokens) == 0
        assert tokens.offsets.tolist() == [0]


class TestOrder:
    @settings(max_examples=20, deadline=None)
    @given(cells(), MEDIANS, st.randoms(use_true_random=False))
    def test_the_order_of_the_genes_in_the_file_does_not_matter(self, drawn, medians, random):
        counts, gene_ids = np.array(drawn[0]), drawn[1]
        columns = list(range(len(gene_ids)))
        random.shuffle(columns)
        tokenizer = make_tokenizer(medians)
        plain = encode(tokenizer, make_block(counts, gene_ids))
        moved = encode(tokenizer, make_block(counts[:, columns], [gene_ids[i] for i in columns]))
        np.testing.assert_array_equal(moved.ids, plain.ids)
        np.testing.assert_array_equal(moved.values, plain.values)

    def test_ties_go_by_token(self):
        tokens = encode(
            make_tokenizer({"g00": 3.0, "g07": 6.0}), make_block([[2, 2, 4, 1]], ["g09", "g03", "g07", "g00"])
        )
        assert genes_of(tokens, 0) == ["g07", "g03", "g09", "g00"]  # 4 / 6, twice 2 / 4.5, 1 / 3

    def test_genes_are_ranked_relative_to_their_medians(self):
        tokens = encode(make_tokenizer({"g00": 10.0, "g01": 0.1}), make_block([[9, 1, 2]], NAMES[:3]))
        assert genes_of(tokens, 0) == ["g01", "g00", "g02"]  # 1 / 0.1, 9 / 10, 2 / 5.05: the middle of the two medians

    @pytest.mark.parametrize("names", [("g02", "g05"), ("g05", "g02")])
    def test_scores_that_differ_in_the_last_bit_are_told_apart(self, names):
        high, low = names
        medians = {high: 3.0, low: float(np.nextafter(3.0, 4.0))}
        tokens = encode(make_tokenizer(medians), make_block([[1, 1, 9], [1, 1, 0]], [low, high, "g09"]))
        assert genes_of(tokens, 0) == ["g09", high, low]
        assert genes_of(tokens, 1) == [high, low]

    def test_a_cut_keeps_the_highest_genes_even_when_scores_differ_in_the_last_bit(self):
        medians = {"g05": 3.0, "g02": float(np.nextafter(3.0, 4.0))}
        tokens = encode(make_tokenizer(medians, max_genes=2), make_block([[1, 1]], ["g02", "g05"]))
        assert genes_of(tokens, 0) == ["g05"]

    def test_normalised_counts_give_the_tokens_of_counts(self):
        counts = np.random.default_rng(2).poisson(2.0, (30, 20)).astype(np.float64)
        medians = dict(zip(NAMES, np.random.default_rng(3).lognormal(size=20), strict=True))
        normalised = counts / counts.sum(axis=1, keepdims=True) * 10_000
        plain = encode(make_tokenizer(medians), make_block(counts, NAMES))
        scaled = encode(make_tokenizer(medians), make_block(normalised, NAMES))
        np.testing.assert_array_equal(scaled.ids, plain.ids)
        np.testing.assert_allclose(scaled.values, plain.values, rtol=1e-5)


class TestCells:
    def test_stored_zeros_are_no_expression(self):
        counts = np.array([[0, 2, 0, 1], [0, 0, 0, 0]])
        stored = encode(make_tokenizer(), make_block(counts, NAMES[:4], zeros=True))
        plain = encode(make_tokenizer(), make_block(counts, NAMES[:4]))
        np.testing.assert_array_equal(stored.ids, plain.ids)
        assert genes_of(stored, 0) == ["g01", "g03"]

    def test_unknown_genes_count_towards_the_total(self):
        tokens = encode(make_tokenizer(), make_block([[1, 3]], ["g00", "unknown"]))
        assert cell(tokens, 0)[1] == pytest.approx([0.0, np.log1p(2500.0)])

    def test_columns_of_one_gene_are_summed(self):
        tokens = encode(make_tokenizer(), make_block([[2, 3, 2]], ["g04", "g01", "g04"]))
        assert genes_of(tokens, 0) == ["g04", "g01"]
        assert cell(tokens, 0)[1] == pytest.approx([0.0, np.log1p(4 / 7 * 1e4), np.log1p(3 / 7 * 1e4)])

    def test_a_column_stored_twice_is_summed(self):
        whole = make_block([[4, 3]], NAMES[:2])
        twice = CellBlock(
            np.array([1, 3, 3], dtype=np.float32), np.array([0, 1, 0]), np.array([0, 3]), whole.panel, whole.positions
        )
        assert cell(encode(make_tokenizer(), twice), 0) == cell(encode(make_tokenizer(), whole), 0)

    def test_unsorted_columns_are_fine(self):
        whole = make_block([[4, 3], [1, 2]], NAMES[:2])
        turned = replace(whole, data=whole.data[[1, 0, 3, 2]], indices=whole.indices[[1, 0, 3, 2]])
        np.testing.assert_array_equal(encode(make_tokenizer(), turned).ids, encode(make_tokenizer(), whole).ids)

    def test_a_cell_without_known_genes_has_its_special_token_only(self):
        tokens = encode(make_tokenizer(), make_block([[0, 0], [1, 0], [0, 5]], ["g00", "unknown"]))
        assert cell(tokens, 0) == ([VOCAB.cls_id], [0.0])
        assert tokens.lengths.tolist() == [1, 2, 1]
        bare = encode(make_tokenizer(add_cls=False), make_block([[0, 0], [1, 0]], ["g00", "unknown"]))
        assert bare.lengths.tolist() == [0, 1]

    def test_the_special_token_counts_towards_the_length(self):
        tokens = encode(make_tokenizer(max_genes=5), make_block(np.ones((1, 20)), NAMES))
        assert cell(tokens, 0)[0] == [VOCAB.cls_id, 4, 5, 6, 7]

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ([1.0, -2.0], "expression of gene 'g01' is -2.0; counts are needed"),
            ([np.nan, 1.0], "expression of gene 'g00' is nan"),
            ([1.0, np.inf], "expression of gene 'g01' is inf"),
            ([1.0, 2.0, 3.0], r"expression has shape \(3,\) for 2 genes; give one cell"),
            (np.ones((2, 2)), r"expression has shape \(2, 2\) for 2 genes"),
        ],
    )
    def test_values_that_are_no_cell_are_refused(self, values, words):
        with pytest.raises(DataError, match=words):
            make_tokenizer().tokenize(np.array(values), NAMES[:2])


class TestMeasured:
    def test_genes_without_room_are_said_to_be_cut(self):
        counts = [[5, 4, 3, 2, 1, 0], [1, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6]]
        tokens = encode(make_tokenizer(max_genes=4), make_block(counts, NAMES[:6]))
        assert [genes_of(tokens, number) for number in range(3)] == [NAMES[:3], NAMES[:1], NAMES[5:2:-1]]
        assert tokens.measured.cut_offsets.tolist() == [0, 2, 2, 5]
        cut = tokens.measured.cut_ids
        assert [sorted(cut[:2].tolist()), sorted(cut[2:].tolist())] == [[7, 8], [4, 5, 6]]

    @settings(max_examples=20, deadline=None)
    @given(cells(), MEDIANS, st.integers(2, 6))
    def test_tokens_and_cut_genes_are_the_expressed_ones(self, drawn, medians, max_genes):
        counts, gene_ids = drawn
        tokens = encode(make_tokenizer(medians, max_genes=max_genes), make_block(np.array(counts), gene_ids))
        known = tokens.measured
        for number, row in enumerate(counts):
            whole, _ = reference(row, gene_ids, medians, max_genes=99, add_cls=True)
            cut = known.cut_ids[known.cut_offsets[number] : known.cut_offsets[number + 1]].tolist()
            assert sorted(cut) == sorted(whole[max_genes:])

    def test_the_genes_of_the_file_are_known_also_where_no_cell_expresses_them(self):
        genes = ["g07", "unknown", "g02", "g07", "g05"]
        encoder = make_tokenizer().bind(make_block([[1] * 5], genes).panel)
        blocks = [make_block([row], genes) for row in ([0, 9, 0, 0, 1], [1, 1, 1, 1, 1])]
        known = [encoder.encode(block, np.zeros(1, dtype=np.uint64)).measured for block in blocks]
        assert [panel.tolist() for panel in known[0].panels] == [[6, 9, 11]]
        assert known[0].panels[0] is known[1].panels[0]
        assert known[0].panel_index.tolist() == [0]

    def test_many_cells_share_the_genes_of_their_file(self):
        counts = np.random.default_rng(6).poisson(0.7, (600, 20))
        known = encode(make_tokenizer(max_genes=5), make_block(counts, NAMES)).measured
        assert len(known.panels) == 1
        assert known.panel_index.tolist() == [0] * 600
        np.testing.assert_array_equal(np.diff(known.cut_offsets), np.maximum(0, (counts > 0).sum(axis=1) - 4))


class TestMedians:
    def test_an_unfitted_tokenizer_is_refused(self):
        tokenizer = get_tokenizer("rank_value", TokenizerConfig(), VOCAB)
        with pytest.raises(ConfigError, match="medians of tokenizer 'rank_value' are not fitted; scan the training"):
            tokenizer.bind(make_block([[1]], ["g00"]).panel)
        with pytest.raises(ConfigError, match=r"set tokenizer\.medians to none or to a file"):
            tokenizer.tokenize(np.ones(1), ["g00"])
        with pytest.raises(ConfigError, match="not fitted"):
            tokenizer.to_dict()
        assert "medians not fitted" in tokenizer.describe()

    def test_the_visitor_fits_them(self):
        tokenizer = get_tokenizer("rank_value", TokenizerConfig(), VOCAB)
        visitor = tokenizer.visitor(lambda positions: positions < 2)
        visitor.update(make_block([[1, 1], [3, 1], [0, 9]], ["g00", "g01"]))
        visitor.finish()
        assert tokenizer.medians.values[4:6] == pytest.approx([6250.0, 3750.0])
        assert tokenizer.describe() == (
            "rank_value, at most 2,048 tokens; "
            "medians of 2 genes fitted over 2 training cells (exact), the middle one of these for 18 genes without"
        )

    def test_none_ranks_by_counts(self):
        tokenizer = RankValueTokenizer(RankValueConfig(medians="none"), VOCAB)
        assert tokenizer.visitor(lambda positions: positions >= 0) is None
        assert genes_of(encode(tokenizer, make_block([[1, 3, 2]], NAMES[:3])), 0) == ["g01", "g02", "g00"]
        assert tokenizer.describe().endswith("no medians")


class TestSaving:
    def test_a_tokenizer_survives_json_exactly(self):
        rng = np.random.default_rng(4)
        tokenizer = make_tokenizer(dict(zip(NAMES[:15], rng.lognormal(size=15), strict=True)), max_genes=9)
        again = RankValueTokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict())), VOCAB)
        np.testing.assert_array_equal(again.medians.values, tokenizer.medians.values)
        assert again.describe() == tokenizer.describe()
        block = make_block(rng.poisson(1.0, (20, 20)), NAMES)
        np.testing.assert_array_equal(encode(again, block).ids, encode(tokenizer, block).ids)

    def test_a_file_of_medians_is_not_needed_again(self, tmp_path):
        path = tmp_path / "m.json"
        path.write_text(json.dumps(dict.fromkeys(NAMES, 2.5)))
        state = RankValueTokenizer(RankValueConfig(medians=str(path)), VOCAB).to_dict()
        path.unlink()
        assert RankValueTokenizer.from_dict(state, VOCAB).medians.values[4] == 2.5

    def test_another_vocabulary_is_refused(self):
        state = make_tokenizer().to_dict()
        with pytest.raises(DataError, match="fitted with other genes than gene_vocab 'turned' has; take"):
            RankValueTokenizer.from_dict(state, GeneVocab.from_genes(NAMES[::-1], name="turned"))
        with pytest.raises(DataError, match="has medians of 24 tokens, gene_vocab 'few' has 7"):
            RankValueTokenizer.from_dict(state, GeneVocab.from_genes(NAMES[:3], name="few"))

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"medians": None}, "the medians in tokenizer.json are damaged"),
            ({"medians": {"values": [1, -1], "method": "exact", "num_cells": 1}}, "medians in .* are damaged"),
            ({"medians": {"values": [1.0], "method": "guess", "num_cells": 1}}, "medians in .* are damaged"),
            ({"config": {"max_genes": "many"}}, r"'rank_value' is damaged: config\.max_genes: Input should be"),
            ({"config": None}, "tokenizer 'rank_value' is damaged: config: "),
        ],
    )
    def test_damaged_state_is_refused(self, change, words):
        with pytest.raises(DataError, match=words):
            RankValueTokenizer.from_dict({**make_tokenizer().to_dict(), **change}, VOCAB)
