"""Which genes of a crowded cell become tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from scmodelforge._errors import ConfigError
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.types import TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers.binned_expression import BinnedExpressionConfig, BinnedExpressionTokenizer

from .cells import VOCAB, cell, encode, make_block

NAMES = [f"g{i:02d}" for i in range(20)]
METHODS: list[dict[str, Any]] = [
    {"method": "quantile"},
    {"method": "uniform"},
    {"method": "fixed", "n_bins": 5, "edges": [1.5, 3.0, 4.0]},
]
SELECTIONS: list[dict[str, Any]] = [
    {"selection": "random"},
    {"selection": "weighted"},
    {"selection": "top"},
    {"selection": "hvg_first", "hvg_genes": ["g03", "g07", "g11"]},
    {"selection": "random", "always_keep": ["g19", "g02"]},
    {"selection": "top", "include_zeros": True},
]


def binned(vocab: GeneVocab = VOCAB, **options: Any) -> BinnedExpressionTokenizer:
    return BinnedExpressionTokenizer(BinnedExpressionConfig.model_validate(options), vocab)


def kept(counts: list[float], number: int, *, cells: int = 1, **options: Any) -> list[list[str]]:
    """Return the genes of equal cells that are tokens where there is room for so many."""
    tokenizer = binned(max_genes=number, add_cls=False, **options)
    tokens = encode(tokenizer, make_block(np.tile(counts, (cells, 1)), NAMES[: len(counts)]))
    return [[NAMES[token - 4] for token in cell(tokens, n)[0]] for n in range(cells)]


def assert_same_cells(found: TokenBlock, expected: TokenBlock) -> None:
    for name in ("offsets", "ids", "values", "bin_ids"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    for name in ("cut_offsets", "cut_ids"):
        np.testing.assert_array_equal(getattr(found.measured, name), getattr(expected.measured, name), err_msg=name)


class TestTop:
    def test_keeps_the_highest_expression(self):
        assert kept([5, 1, 9, 3, 7, 2], 3, selection="top") == [["g00", "g02", "g04"]]

    def test_of_equal_ones_keeps_the_lowest_tokens(self):
        assert kept([2, 2, 9, 2, 2, 2], 3, selection="top", cells=4) == [["g00", "g01", "g02"]] * 4


class TestWeighted:
    def test_draws_the_first_gene_in_proportion_to_expression(self):
        tokenizer = binned(max_genes=2, add_cls=True, selection="weighted")  # room for one gene
        tokens = encode(tokenizer, make_block(np.tile([1, 2, 3, 4], (4000, 1)), NAMES[:4]))
        counts = np.bincount(tokens.ids[1::2] - 4, minlength=4)
        expected = 4000 * np.array([0.1, 0.2, 0.3, 0.4])
        assert ((counts - expected) ** 2 / expected).sum() < 3 + 5 * np.sqrt(2 * 3)  # chi-square of 3 degrees

    def test_draws_the_second_among_the_rest_in_proportion(self):
        pairs = kept([1, 1, 8], 2, selection="weighted", cells=4000)
        # Of the six orders of two genes: the last is missing if 0 and 1 come first, 2 * 1/10 * 1/9.
        share = np.mean([pair == ["g00", "g01"] for pair in pairs])
        assert abs(share - 2 / 90) < 5 * np.sqrt(2 / 90 / 4000)

    def test_does_not_depend_on_the_unit(self):
        counts = np.random.default_rng(0).integers(1, 30, 20)
        assert kept((counts * 4.0).tolist(), 9, selection="weighted", cells=20) == kept(
            counts.tolist(), 9, selection="weighted", cells=20
        )


class TestGivenGenes:
    def test_come_first(self):
        for genes in kept([1] * 20, 5, selection="hvg_first", hvg_genes=["g03", "g07", "g11"], cells=20):
            assert {"g03", "g07", "g11"} < set(genes)

    def test_are_drawn_from_where_there_is_no_room_for_all(self):
        found = kept([1] * 20, 2, selection="hvg_first", hvg_genes=["g03", "g07", "g11"], cells=60)
        assert {frozenset(genes) for genes in found} == {
            frozenset(pair) for pair in (("g03", "g07"), ("g03", "g11"), ("g07", "g11"))
        }

    @pytest.mark.parametrize("selection", SELECTIONS[:4])
    def test_are_always_kept_if_so_asked(self, selection):
        values = np.arange(20, 0, -1.0)
        for genes in kept(values.tolist(), 4, always_keep=["g19", "g18"], cells=20, **selection):
            assert {"g18", "g19"} < set(genes)

    def test_that_a_cell_does_not_express_take_no_room(self):
        assert kept([1, 0, 1, 1], 2, always_keep=["g01", "g03"], selection="top") == [["g00", "g03"]]

    def test_that_nothing_knows_are_refused_or_told(self, caplog):
        with pytest.raises(ConfigError, match=r"always_keep: gene 'g99' is not in gene_vocab 'twenty', so it has no"):
            binned(always_keep=["g01", "g99"])
        with pytest.raises(ConfigError, match=r"hvg_genes: none of the 2 genes is in gene_vocab 'twenty'; use its"):
            binned(selection="hvg_first", hvg_genes=["x1", "x2"])
        binned(selection="hvg_first", hvg_genes=["x1", "g02"])
        assert "tokenizer.hvg_genes: 1 of 2 genes are not in the vocabulary." in caplog.text


class TestSettings:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"hvg_genes": ["g01"]}, "hvg_genes have no effect with selection 'random'; set it to 'hvg_first'"),
            ({"selection": "hvg_first"}, "selection 'hvg_first' needs hvg_genes; list the genes to keep"),
            (
                {"always_keep": ["g01", "g02", "g03"], "max_genes": 3},
                "always_keep has 3 genes, but max_genes leaves room for 2; raise max_genes or name fewer",
            ),
        ],
    )
    def test_that_contradict_each_other_are_refused(self, options, words):
        with pytest.raises(ValidationError, match=words):
            BinnedExpressionConfig.model_validate(options)

    def test_default_to_a_random_part(self):
        assert BinnedExpressionConfig().selection == "random"


GENE_IDS = st.lists(st.sampled_from([*NAMES, "x1", "x2", "x3"]), min_size=1, max_size=24, unique=True)


@st.composite
def cells(draw):
    gene_ids = draw(GENE_IDS)
    row = st.lists(st.integers(0, 5), min_size=len(gene_ids), max_size=len(gene_ids))
    return np.array(draw(st.lists(row, min_size=1, max_size=4)), dtype=float), gene_ids


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["method"])
class TestWhateverIsChosen:
    @settings(max_examples=6, deadline=None)
    @given(cells(), st.integers(4, 12), st.sampled_from(["mid", "random"]), st.randoms(use_true_random=False))
    def test_the_order_of_genes_and_unknown_genes_change_nothing(self, method, selection, drawn, room, ties, random):
        counts, gene_ids = drawn
        tokenizer = binned(max_genes=room, ties=ties, **method, **selection)
        plain = encode(tokenizer, make_block(counts, gene_ids))
        columns = list(range(len(gene_ids)))
        random.shuffle(columns)
        strange = np.full((len(counts), 2), 7.0)
        names = [*(gene_ids[column] for column in columns), "unknown", "not known"]
        assert_same_cells(encode(tokenizer, make_block(np.hstack([counts[:, columns], strange]), names)), plain)

    @settings(max_examples=6, deadline=None)
    @given(cells(), st.integers(4, 12), st.sampled_from(["mid", "random"]), st.integers(0, 2**60))
    def test_a_batch_is_its_cells_and_a_token_comes_once(self, method, selection, drawn, room, ties, seed):
        counts, gene_ids = drawn
        tokenizer = binned(max_genes=room, ties=ties, **method, **selection)
        block = make_block(counts, gene_ids, first=3)
        keys = cell_keys(seed, block.positions)
        encoder = tokenizer.bind(block.panel)
        whole = encoder.encode(block, keys)
        ones = [encoder.encode(block.select(np.array([n])), keys[[n]]) for n in range(len(block))]
        assert_same_cells(whole, TokenBlock.concatenate(ones))
        for n in range(len(block)):
            ids, _ = cell(whole, n)
            assert len(set(ids)) == len(ids) <= room
            assert ids == [VOCAB.cls_id, *sorted(ids[1:])]
