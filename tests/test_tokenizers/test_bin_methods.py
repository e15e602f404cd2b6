"""Bins between edges that all cells share, bins of equal width, and the values that stand for no expression."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import PreprocessingConfig, TokenizerConfig
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.types import TokenBlock
from scmodelforge.tokenizers import BaseTokenizer
from scmodelforge.tokenizers.bin_edges import EdgeFit
from scmodelforge.tokenizers.binned_expression import SCGPT, BinnedExpressionConfig, BinnedExpressionTokenizer
from scmodelforge.tokenizers.bins import scgpt_bins
from scmodelforge.tokenizers.entries import Entries

from .cells import VOCAB, cell, encode, make_block

NAMES = [f"g{i:02d}" for i in range(20)]


def binned(**options: Any) -> BinnedExpressionTokenizer:
    return BinnedExpressionTokenizer(BinnedExpressionConfig.model_validate(options), VOCAB)


def bins(values: list[float], **options: Any) -> list[int]:
    found = binned(add_cls=False, **options).tokenize(np.array(values), NAMES[: len(values)])
    return found["bin_ids"].tolist()


def fitted(counts: np.ndarray, *, preprocess=None, train=None, **options: Any) -> BinnedExpressionTokenizer:
    tokenizer = binned(method="fixed", **options)
    visitor = tokenizer.visitor(lambda positions: np.isin(positions, train) if train else positions >= 0)
    visitor.preprocess = preprocess
    for start in range(0, len(counts), 7):
        visitor.update(make_block(counts[start : start + 7], NAMES, first=start))
    visitor.finish()
    return tokenizer


class TestGivenEdges:
    def test_a_bin_begins_at_its_edge(self):
        assert bins([0.5, 1, 1.5, 2, 3.9, 4, 99], method="fixed", n_bins=5, edges=[1, 2, 4]) == [1, 2, 2, 3, 3, 4, 4]

    def test_are_the_same_for_all_cells_whatever_the_ties(self):
        for ties in ("mid", "lower", "upper", "random"):
            assert bins([1, 1], method="fixed", n_bins=4, edges=[1.0, 2.0], ties=ties) == [2, 2]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (
                {"edges": [1.0, 2.0]},
                "edges have no effect with method 'quantile'; remove them or set method to 'fixed'",
            ),
            (
                {"method": "fixed", "edges": [1.0, 2.0]},
                "edges has 2 numbers for 51 bins; .* 2 edges make 4: set n_bins to that or give 49 edges",
            ),
            ({"method": "fixed", "n_bins": 4, "edges": [2.0, 2.0]}, "edges are 2, 2; give numbers above 0, each above"),
            ({"method": "fixed", "n_bins": 4, "edges": [0.0, 2.0]}, "edges are 0, 2; give numbers above 0"),
        ],
    )
    def test_that_make_no_bins_are_refused(self, options, words):
        with pytest.raises(ValidationError, match=words):
            BinnedExpressionConfig.model_validate(options)


class TestFittedEdges:
    COUNTS = np.random.default_rng(0).poisson(np.random.default_rng(1).gamma(1.0, 4.0, 20), (60, 20)).astype(float)

    def test_are_quantiles_of_all_values_of_the_training_cells(self):
        train = list(range(0, 60, 2))
        tokenizer = fitted(self.COUNTS, n_bins=6, train=train)
        values = self.COUNTS[train]
        np.testing.assert_array_equal(tokenizer.edges, np.quantile(values[values > 0], np.arange(5) / 5))

    def test_are_those_of_values_as_the_model_gets_them(self):
        preprocess = Preprocessor(PreprocessingConfig(normalize="library_size", log1p=True))
        tokenizer = fitted(self.COUNTS, n_bins=6, preprocess=preprocess)
        block = preprocess(make_block(self.COUNTS, NAMES))
        np.testing.assert_allclose(tokenizer.edges, np.quantile(block.data, np.arange(5) / 5), rtol=1e-6)
        shares = np.bincount(encode(tokenizer, block).bin_ids, minlength=6)[1:] / len(block.data)
        assert np.abs(shares - 0.2).max() < 0.05

    @pytest.mark.parametrize("ties", ["mid", "lower", "upper"])
    def test_come_with_the_mean_of_the_values_in_each_bin(self, ties):
        tokenizer = fitted(self.COUNTS * 0.37, n_bins=5, ties=ties)
        block = make_block(self.COUNTS * 0.37, NAMES)
        tokens = encode(tokenizer, block)
        found, values = tokens.bin_ids[tokens.ids >= 4], block.data.astype(np.float64)
        known = sorted(set(found.tolist()))
        np.testing.assert_allclose(
            tokenizer.centres.values[known], [values[found == number].mean() for number in known], rtol=1e-6
        )
        assert tokenizer.centres.scale == "as_given"

    def test_share_values_between_bins_that_are_drawn(self):
        tokenizer = fitted(np.ones((4, 20)), n_bins=5, ties="random")
        np.testing.assert_allclose(tokenizer.centres.values[1:], np.log1p(10_000 / 20))

    def test_of_many_different_values_are_close_whatever_the_order_of_cells(self):
        values = np.random.default_rng(2).lognormal(0, 2, 5000).astype(np.float32)
        found = []
        for order in (np.arange(5000), np.argsort(values), np.random.default_rng(3).permutation(5000)):
            fit = EdgeFit(
                lambda block: Entries(np.zeros(len(block.data), np.int64), block.indices, block.data.astype(float)),
                11,
                "mid",
                lambda positions: positions >= 0,
                lambda edges, centres: found.append((edges, centres.values)),
                most=300,
            )
            for part in np.array_split(values[order], 9):
                fit.update(make_block(part[None], [f"x{n}" for n in range(len(part))]))
            fit.finish()
        exact = np.quantile(values, np.arange(10) / 10)
        np.testing.assert_allclose(found[0][0][1:], exact[1:], rtol=0.07)
        for edges, centres in found[1:]:
            np.testing.assert_array_equal(edges, found[0][0])
            np.testing.assert_allclose(centres, found[0][1], rtol=1e-9)

    def test_must_be_fitted_before_they_are_used(self):
        with pytest.raises(ConfigError, match="the edges of tokenizer 'binned_expression' are not fitted; scan the"):
            bins([1.0, 2.0], method="fixed")

    def test_need_training_cells(self):
        with pytest.raises(DataError, match="no training cell expresses a gene of the vocabulary, so there are no"):
            fitted(np.zeros((3, 20)))

    def test_survive_json_exactly(self):
        tokenizer = fitted(self.COUNTS / 7, n_bins=6)
        again = BinnedExpressionTokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict())), VOCAB)
        np.testing.assert_array_equal(again.edges, tokenizer.edges)
        assert again.describe().endswith("6 bins between fitted edges, ties: mid")

    @pytest.mark.parametrize(
        ("edges", "words"),
        [
            ([1.0, 2.0], "edges: not 5 ascending numbers; take it as it was saved"),
            ([1.0, 2.0, 3.0, 2.0, 9.0], "edges: not 5 ascending"),
            ([1.0, 2.0, 3.0, None, 9.0], "edges: not 5 ascending"),
            (["a"], "edges: could not convert"),
        ],
    )
    def test_that_are_damaged_are_refused(self, edges, words):
        state = {**fitted(self.COUNTS, n_bins=6).to_dict(), "edges": edges}
        with pytest.raises(DataError, match=f"'binned_expression' is damaged: {words}"):
            BinnedExpressionTokenizer.from_dict(state, VOCAB)


class TestEqualWidth:
    def test_bins_reach_up_to_the_maximum_of_the_cell(self):
        assert bins([1, 2, 2.5, 5, 7.5, 9.9, 10], method="uniform", n_bins=5) == [1, 1, 2, 3, 4, 4, 4]
        assert bins([3.0], method="uniform") == [50]

    @given(st.lists(st.floats(2**-10, 2**10, width=32), min_size=1, max_size=20), st.integers(2, 60))
    def test_are_those_of_numpy(self, values, n_bins):
        edges = max(values) * (np.arange(n_bins - 1) / (n_bins - 1))
        assert bins(values, method="uniform", n_bins=n_bins) == np.digitize(values, edges).tolist()


class TestNormalisation:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, True),
            ({"selection": "top"}, True),
            ({"selection": "weighted"}, False),
            ({"method": "uniform"}, False),
            ({"method": "fixed", "n_bins": 3, "edges": [1.0]}, False),
        ],
    )
    def test_changes_nothing_for_some_settings_only(self, options, expected):
        config = BinnedExpressionConfig.model_validate(options)
        assert config.normalizes is expected
        assert BinnedExpressionTokenizer(config, VOCAB).normalizes is expected


class TestValuesThatAreNoExpression:
    def test_are_nothing_unless_set(self):
        tokens = encode(binned(), make_block([[1, 2]], NAMES[:2]))
        assert (tokens.pad_value, tokens.mask_value, tokens.values[0]) == (0.0, 0.0, 0.0)

    def test_of_the_published_models(self):
        tokenizer = BinnedExpressionTokenizer(BinnedExpressionConfig.model_validate(SCGPT), VOCAB)
        tokens = encode(tokenizer, make_block([[1, 2, 4]], NAMES[:3]))
        ids, values = cell(tokens, 0)
        assert (ids, values[0], values[1], values[3]) == ([VOCAB.cls_id, 4, 5, 6], -2.0, 1.0, 50.0)
        assert (tokens.pad_value, tokens.mask_value) == (-2.0, -1.0)
        assert (tokenizer.pad_value, tokenizer.mask_value) == (-2.0, -1.0)

    def test_stay_with_the_tokens_whatever_is_done_to_them(self):
        tokens = encode(binned(pad_value=-2, mask_value=-1), make_block(np.ones((4, 3)), NAMES[:3]))
        every = np.arange(4)
        for block in (
            tokens.select(every),
            tokens.part(1, 3),
            TokenBlock.concatenate([tokens, tokens]),
            TokenBlock.gather([tokens, tokens], every % 2, every),
        ):
            assert (block.pad_value, block.mask_value) == (-2.0, -1.0)

    def test_of_a_tokenizer_for_one_cell_go_with_its_blocks(self):
        class Plain(BaseTokenizer):
            pad_value, mask_value = -2.0, -1.0

            def tokenize(self, expression, gene_ids, *, key=0):
                tokens, values = self.expressed(expression, gene_ids)
                return {"input_ids": tokens, "attention_mask": np.ones(len(tokens)), "values": values}

        tokens = encode(Plain(TokenizerConfig(), VOCAB), make_block([[1, 2]], NAMES[:2]))
        assert (tokens.pad_value, tokens.mask_value) == (-2.0, -1.0)


class TestGenesWithoutExpression:
    def test_are_tokens_of_bin_0_if_so_asked(self):
        tokenizer = binned(include_zeros=True, n_bins=3)
        tokens = encode(tokenizer, make_block([[0, 3, 5, 0], [0, 0, 0, 0]], ["g03", "g01", "g02", "unknown"]))
        assert cell(tokens, 0) == ([VOCAB.cls_id, 5, 6, 7], [0.0, 0.5, 1.0, 0.0])
        assert cell(tokens, 1)[0] == [VOCAB.cls_id, 5, 6, 7]

    def test_are_not_among_expressed_ones_without_room(self):
        tokenizer = binned(include_zeros=True, max_genes=3, selection="weighted")
        tokens = encode(tokenizer, make_block([[0, 3, 5, 4]], NAMES[:4]))
        assert len(tokens.ids) == 3
        assert len(tokens.measured.cut_ids) == 1
        assert 4 not in [*tokens.ids, *tokens.measured.cut_ids]

    def test_of_many_cells_are_those_of_each(self):
        counts = np.random.default_rng(0).poisson(0.5, (150, 20))
        tokenizer = binned(include_zeros=True, max_genes=9, add_cls=False)
        tokens = encode(tokenizer, make_block(counts, NAMES))
        assert tokens.lengths.tolist() == [9] * 150
        one = tokenizer.bind(make_block(counts, NAMES).panel).encode(
            make_block(counts, NAMES).select(np.array([140])), np.array([140], dtype=np.uint64)
        )
        assert one.ids.tolist() == cell(tokens, 140)[0]


class TestOneRow:
    def test_zero_stays_zero_and_edges_begin_with_it(self):
        found, edges = scgpt_bins(np.array([0.0, 1.0, 2.0]), 4)
        assert (found.tolist(), edges.tolist()) == ([0, 1, 3], [0.0, 1.0, 1.5, 2.0])
        found, edges = scgpt_bins(np.zeros(3), 4)
        assert (found.tolist(), edges.tolist()) == ([0, 0, 0], [0.0] * 4)

    def test_random_numbers_choose_among_the_bins_of_equal_values(self):
        # Three equal values equal all five edges: ceil(5 - 5 u).
        found, _ = scgpt_bins(np.full(4, 2.0), 6, uniforms=np.array([0.0, 0.2, 0.79, 1 - 2**-53]))
        assert found.tolist() == [5, 4, 2, 1]

    @pytest.mark.parametrize(
        ("values", "uniforms", "words"),
        [
            ([1.0, -2.0], None, "a value to bin is -2.0; give finite values, none below 0"),
            ([1.0, np.nan], None, "a value to bin is nan"),
            ([1.0, 0.0], [0.1, 0.2], "2 random numbers for 1 values above 0; give one for each"),
        ],
    )
    def test_what_cannot_be_binned_is_refused(self, values, uniforms, words):
        with pytest.raises(DataError, match=words):
            scgpt_bins(np.array(values), 5, uniforms=None if uniforms is None else np.array(uniforms))
