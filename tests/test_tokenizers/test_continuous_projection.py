from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import TokenizerConfig
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers import get_tokenizer
from scmodelforge.tokenizers.continuous_projection import ContinuousProjectionConfig, ContinuousProjectionTokenizer

from .cells import VOCAB, cell, encode, make_block

NAMES = [f"g{i:02d}" for i in range(20)]
MANY = GeneVocab.from_genes([f"m{i:03d}" for i in range(400)], name="four hundred")


def continuous(vocab: GeneVocab = VOCAB, **options: Any) -> ContinuousProjectionTokenizer:
    return ContinuousProjectionTokenizer(ContinuousProjectionConfig.model_validate(options), vocab)


@st.composite
def cells(draw):
    gene_ids = draw(st.lists(st.sampled_from([*NAMES, "x1", "x2"]), min_size=1, max_size=24))
    row = st.lists(st.integers(0, 5), min_size=len(gene_ids), max_size=len(gene_ids))
    return draw(st.lists(row, min_size=1, max_size=5)), gene_ids


class TestTokens:
    @given(cells(), st.booleans())
    def test_are_the_expressed_known_genes_with_their_summed_counts(self, drawn, add_cls):
        counts, gene_ids = drawn
        tokens = encode(continuous(value_transform="counts", add_cls=add_cls), make_block(np.array(counts), gene_ids))
        for number, row in enumerate(counts):
            summed: dict[int, float] = {VOCAB.cls_id: 0.0} if add_cls else {}
            for gene in NAMES:
                total = sum(count for count, name in zip(row, gene_ids, strict=True) if name == gene)
                if total:
                    summed[4 + NAMES.index(gene)] = float(total)
            assert cell(tokens, number) == (list(summed), list(summed.values()))

    @given(cells(), st.integers(2, 12), st.sampled_from(["random", "top"]), st.sampled_from(["token", "expression"]))
    def test_of_a_block_are_those_of_its_cells(self, drawn, max_genes, selection, order):
        counts, gene_ids = drawn
        tokenizer = continuous(max_genes=max_genes, selection=selection, order=order)
        block = make_block(np.array(counts), gene_ids, first=3)
        keys = cell_keys(1, block.positions)
        tokens = tokenizer.bind(block.panel).encode(block, keys)
        for number, row in enumerate(counts):
            one = tokenizer.tokenize(np.array(row), gene_ids, key=int(keys[number]))
            assert (one["input_ids"].tolist(), one["values"].tolist()) == cell(tokens, number)
            assert one["attention_mask"].tolist() == [1] * len(one["input_ids"])
            assert len(one["input_ids"]) <= max_genes
        assert tokens.cell_index.tolist() == block.positions.tolist()

    def test_may_descend_by_expression_and_ties_ascend_by_token(self):
        tokens = encode(continuous(order="expression", add_cls=False), make_block([[2, 7, 2, 9]], NAMES[:4]))
        assert cell(tokens, 0)[0] == [7, 5, 4, 6]

    def test_of_cells_without_known_genes_are_the_first_token_only(self):
        tokens = encode(continuous(), make_block([[0, 0, 9], [0, 0, 0]], ["g01", "g02", "unknown"]))
        assert [cell(tokens, number)[0] for number in range(2)] == [[VOCAB.cls_id]] * 2
        assert len(encode(continuous(), make_block(np.zeros((0, 3)), NAMES[:3]))) == 0

    @settings(max_examples=20, deadline=None)
    @given(cells(), st.integers(2, 12), st.sampled_from(["random", "top"]), st.randoms(use_true_random=False))
    def test_do_not_depend_on_the_order_of_the_genes_in_the_file(self, drawn, max_genes, selection, random):
        counts, gene_ids = np.array(drawn[0]), drawn[1]
        columns = list(range(len(gene_ids)))
        random.shuffle(columns)
        tokenizer = continuous(max_genes=max_genes, selection=selection)
        plain = encode(tokenizer, make_block(counts, gene_ids))
        moved = encode(tokenizer, make_block(counts[:, columns], [gene_ids[i] for i in columns]))
        for name in ("offsets", "ids", "values"):
            np.testing.assert_array_equal(getattr(moved, name), getattr(plain, name))


class TestValues:
    COUNTS = np.array([[1.0, 3.0, 40.0, 6.0]])
    GENES = ("g00", "g01", "g02", "unknown")

    @pytest.mark.parametrize(
        ("transform", "expected"),
        [
            ("log1p_cp10k", np.log1p(np.array([1, 3, 40]) / 50 * 10_000)),  # of all genes, the unknown one too
            ("log1p", np.log([2, 4, 41])),
            ("counts", [1, 3, 40]),
            ("as_given", [1, 3, 40]),
        ],
    )
    def test_are_transformed_as_asked(self, transform, expected):
        tokens = encode(continuous(value_transform=transform, add_cls=False), make_block(self.COUNTS, list(self.GENES)))
        assert tokens.values == pytest.approx(np.asarray(expected, dtype=np.float32), rel=1e-6)
        assert tokens.values.dtype == np.float32

    def test_are_clipped_after_that(self):
        tokenizer = continuous(value_transform="counts", clip=30, add_cls=False)
        assert encode(tokenizer, make_block(self.COUNTS, list(self.GENES))).values.tolist() == [1, 3, 30]
        assert "values: counts up to 30, used as linear" in tokenizer.describe()

    def test_say_what_data_they_need(self):
        assert (continuous().expects, continuous().normalizes) == ("counts", True)
        assert (continuous(value_transform="log1p").expects, continuous(value_transform="log1p").normalizes) == (
            "counts",
            False,
        )
        assert continuous(value_transform="as_given").expects == "any"

    @pytest.mark.parametrize("use", ["linear", "auto_bins"])
    def test_are_used_by_models_as_the_settings_say(self, use):
        spec = continuous(embedding=use, num_auto_bins=7).embedding_spec()
        assert (spec.values, spec.vectors, spec.num_auto_bins) == (use, None, 7)

    def test_that_are_logarithms_are_no_attention_bias(self):
        assert continuous(embedding="attention_bias", value_transform="counts").embedding_spec().values
        with pytest.raises(ValueError, match=r"takes the logarithm of counts itself, but value_transform is 'log1p'"):
            ContinuousProjectionConfig(embedding="attention_bias", value_transform="log1p")

    @pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
    def test_that_are_no_counts_are_refused(self, wrong):
        with pytest.raises(DataError, match="expression of gene 'g01' is"):
            continuous().tokenize(np.array([1.0, wrong]), NAMES[:2])


class TestTooManyGenes:
    def test_the_top_ones_stay(self):
        counts = np.random.default_rng(0).integers(1, 1000, 400)
        tokens = encode(continuous(MANY, max_genes=41, selection="top"), make_block(counts[None], MANY.genes))
        highest = sorted(range(400), key=lambda gene: (-counts[gene], gene))[:40]
        assert cell(tokens, 0)[0] == [MANY.cls_id, *sorted(4 + gene for gene in highest)]
        assert sorted(tokens.measured.cut_ids.tolist()) == sorted(set(range(4, 404)) - {4 + gene for gene in highest})

    def test_random_ones_differ_between_cells_and_are_equally_likely(self):
        block = make_block(np.ones((400, 400)), MANY.genes)
        tokenizer = continuous(MANY, max_genes=101)
        tokens = tokenizer.bind(block.panel).encode(block, cell_keys(5, block.positions))
        assert set(tokens.lengths.tolist()) == {101}
        times = np.bincount(tokens.ids, minlength=404)[4:]
        assert abs(times - 100).max() < 5 * np.sqrt(400 * 0.25 * 0.75)
        assert cell(tokens, 0)[0] != cell(tokens, 1)[0]

    def test_all_stay_where_they_fit(self):
        tokens = encode(continuous(max_genes=21), make_block(np.ones((1, 20)), NAMES))
        assert len(tokens.ids) == 21


class TestSaving:
    def test_it_is_found_by_name_and_saved_whole(self):
        tokenizer = get_tokenizer("continuous_projection", TokenizerConfig(max_genes=9), VOCAB)
        assert isinstance(tokenizer, ContinuousProjectionTokenizer)
        saved = continuous(clip=3, embedding="auto_bins").to_dict()
        again = ContinuousProjectionTokenizer.from_dict(saved, VOCAB)
        assert again.config == continuous(clip=3, embedding="auto_bins").config
        with pytest.raises(DataError, match="fitted with other genes than gene_vocab 'four hundred'"):
            ContinuousProjectionTokenizer.from_dict(saved, MANY)

    def test_settings_of_another_tokenizer_are_refused(self):
        from scmodelforge.tokenizers.binned_expression import BinnedExpressionConfig

        with pytest.raises(ConfigError, match=r"'continuous_projection' has no setting 'tokenizer\.n_bins'"):
            get_tokenizer("continuous_projection", BinnedExpressionConfig(n_bins=9), VOCAB)
