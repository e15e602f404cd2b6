"""What decides between equal ranks, the last token, and what no rank depends on."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers.medians import GeneMedians
from scmodelforge.tokenizers.rank_value import RankValueConfig, RankValueTokenizer

from .cells import VOCAB, cell, encode, genes_of, make_block, make_tokenizer, middle_of
from .test_rank_value import MEDIANS, NAMES, cells

WITH_EOS = GeneVocab(NAMES, name="eos", special_tokens={"<pad>": 0, "<mask>": 1, "<cls>": 2, "<eos>": 3})


def with_eos(**settings) -> RankValueTokenizer:
    return RankValueTokenizer(RankValueConfig(add_eos=True, **settings), WITH_EOS, medians=GeneMedians.none(WITH_EOS))


class TestEos:
    def test_it_is_the_last_token_of_every_cell_and_takes_a_place(self):
        tokens = encode(with_eos(max_genes=4), make_block([[1, 2, 3], [0, 0, 0], [0, 5, 0]], NAMES[:3]))
        assert [cell(tokens, number)[0] for number in range(3)] == [[2, 6, 5, 3], [2, 3], [2, 5, 3]]
        assert cell(tokens, 2)[1][-1] == 0
        assert tokens.measured.cut_ids.tolist() == [4]
        bare = encode(with_eos(add_cls=False), make_block([[1, 2, 3], [0, 0, 0]], NAMES[:3]))
        assert [cell(bare, number)[0] for number in range(2)] == [[6, 5, 4, 3], [3]]


class TestTies:
    def test_stable_ones_go_by_the_first_column_of_a_gene(self):
        block = make_block([[1, 2, 2, 1, 0], [2, 1, 0, 0, 2]], ["g05", "g09", "unknown", "g05", "g01"])
        assert [genes_of(encode(make_tokenizer(), block), number) for number in range(2)] == [
            ["g05", "g09"],
            ["g01", "g05", "g09"],
        ]
        stable = encode(make_tokenizer(ties="stable"), block)
        assert [genes_of(stable, number) for number in range(2)] == [["g05", "g09"], ["g05", "g01", "g09"]]

    def test_many_stable_ones_keep_their_order(self):
        names = [NAMES[gene] for gene in np.random.default_rng(9).permutation(20)]
        counts = np.random.default_rng(10).integers(1, 3, (50, 20))
        found = encode(make_tokenizer(ties="stable"), make_block(counts, names))
        for number, row in enumerate(counts):
            twos, ones = ([names[i] for i in np.flatnonzero(row == count)] for count in (2, 1))
            assert genes_of(found, number) == [*twos, *ones]

    @settings(max_examples=20, deadline=None)
    @given(cells(), MEDIANS, st.integers(2, 12))
    def test_all_of_them_give_the_same_ranks(self, drawn, medians, max_genes):
        counts, gene_ids = np.array(drawn[0]), drawn[1]
        block = make_block(counts, gene_ids)
        plain, *others = (
            encode(make_tokenizer(medians, max_genes=max_genes, ties=ties), block)
            for ties in ("token", "stable", "numpy")
        )
        for other in others:
            np.testing.assert_array_equal(other.offsets, plain.offsets)
            np.testing.assert_array_equal(
                scores_of(other, drawn, medians), scores_of(plain, drawn, medians), err_msg=str(other.ids)
            )

    def test_those_of_numpy_are_those_of_its_sort_for_each_cell(self):
        counts = np.random.default_rng(8).poisson(0.8, (300, 20))
        found = encode(make_tokenizer(ties="numpy"), make_block(counts, NAMES))
        for number, row in enumerate(counts):
            expressed = np.flatnonzero(row)
            order = expressed[np.argsort(-row[expressed].astype(np.float64))]
            assert genes_of(found, number) == [NAMES[gene] for gene in order]


def scores_of(tokens, drawn, medians) -> list[Fraction]:
    """Return expression over median of every gene token."""
    found = []
    for number, row in enumerate(drawn[0]):
        summed = {gene: sum(c for g, c in zip(drawn[1], row, strict=True) if g == gene) for gene in drawn[1]}
        found += [
            Fraction(summed[gene]) / Fraction(medians.get(gene, middle_of(medians)))
            for gene in genes_of(tokens, number)
        ]
    return found


class TestWhatNeverMatters:
    @given(cells(), MEDIANS, st.integers(-8, 8))
    def test_scaling_by_a_power_of_two_changes_no_rank(self, drawn, medians, power):
        counts, tokenizer = np.array(drawn[0]), make_tokenizer(medians)
        plain = encode(tokenizer, make_block(counts, drawn[1]))
        scaled = encode(tokenizer, make_block(counts * 2.0**power, drawn[1]))
        np.testing.assert_array_equal(scaled.ids, plain.ids)
        np.testing.assert_array_equal(scaled.values, plain.values)

    @given(cells(), MEDIANS, st.integers(1, 5))
    def test_genes_outside_the_vocabulary_change_no_rank(self, drawn, medians, more):
        counts, tokenizer = np.array(drawn[0]), make_tokenizer(medians)
        plain = encode(tokenizer, make_block(counts, drawn[1]))
        wide = np.hstack([np.full((len(counts), more), 3), counts])
        found = encode(tokenizer, make_block(wide, [*(f"more{i}" for i in range(more)), *drawn[1]]))
        np.testing.assert_array_equal(found.ids, plain.ids)

    @given(cells(), st.sampled_from(["token", "stable", "numpy"]))
    def test_a_cell_has_a_token_once(self, drawn, ties):
        tokens = encode(make_tokenizer(ties=ties), make_block(np.array(drawn[0]), drawn[1]))
        for number in range(len(tokens)):
            ids = cell(tokens, number)[0]
            assert len(set(ids)) == len(ids)

    @given(cells(), st.randoms(use_true_random=False))
    def test_the_order_of_genes_that_an_id_mapping_finds(self, drawn, random):
        counts, gene_ids = np.array(drawn[0]), [gene.replace("g0", "old") for gene in drawn[1]]
        mapping = {f"OLD{i}": f"g0{i}" for i in range(10)}
        tokenizer = RankValueTokenizer(RankValueConfig(), VOCAB, medians=GeneMedians.none(VOCAB), id_mapping=mapping)
        columns = list(range(len(gene_ids)))
        random.shuffle(columns)
        plain = encode(make_tokenizer(), make_block(counts, drawn[1]))
        moved = encode(tokenizer, make_block(counts[:, columns], [gene_ids[i] for i in columns]))
        np.testing.assert_array_equal(moved.ids, plain.ids)
        one = tokenizer.tokenize(counts[0], gene_ids)
        assert one["input_ids"].tolist() == cell(plain, 0)[0]
