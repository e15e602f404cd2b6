from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge._errors import DataError
from scmodelforge.config.schema import TokenizerConfig
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.types import CellBlock, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers import get_tokenizer, list_tokenizers
from scmodelforge.tokenizers.binned_expression import BinnedExpressionConfig, BinnedExpressionTokenizer

from .cells import VOCAB, cell, encode, make_block

NAMES = [f"g{i:02d}" for i in range(20)]
MANY = GeneVocab.from_genes([f"m{i:03d}" for i in range(400)], name="four hundred")
GENE_IDS = st.lists(st.sampled_from([*NAMES, "x1", "x2", "x3"]), min_size=1, max_size=24)
TIES = ("mid", "lower", "upper", "random")


def binned(vocab: GeneVocab = VOCAB, **options: Any) -> BinnedExpressionTokenizer:
    return BinnedExpressionTokenizer(BinnedExpressionConfig.model_validate(options), vocab)


def bins_of(tokens: TokenBlock, number: int) -> dict[int, int]:
    """Return the bin of each token of a cell."""
    own = slice(tokens.offsets[number], tokens.offsets[number + 1])
    assert tokens.bin_ids is not None
    return dict(zip(tokens.ids[own].tolist(), tokens.bin_ids[own].tolist(), strict=True))


def cut_of(tokens: TokenBlock, number: int) -> list[int]:
    assert tokens.measured is not None
    start, stop = tokens.measured.cut_offsets[number : number + 2]
    return sorted(tokens.measured.cut_ids[start:stop].tolist())


def reference(counts: list[int], gene_ids: list[str], n_bins: int, ties: str) -> dict[int, int]:
    """Return the bin of each expressed known gene of one cell, as the paper's formula says."""
    summed: dict[int, float] = {}
    for gene, count in zip(gene_ids, counts, strict=True):
        if count > 0 and gene in NAMES:
            token = 4 + NAMES.index(gene)
            summed[token] = summed.get(token, 0.0) + count
    values = np.array(list(summed.values()))
    if not len(values):
        return {}
    edges = np.quantile(values, np.linspace(0, 1, n_bins - 1))
    upper = np.digitize(values, edges, right=False)
    lower = np.minimum(np.digitize(values, edges, right=True) + 1, upper)
    chosen = {"lower": lower, "upper": upper, "mid": np.ceil((lower + upper) / 2).astype(int)}[ties]
    return dict(zip(summed, chosen.tolist(), strict=True))


@st.composite
def cells(draw):
    gene_ids = draw(GENE_IDS)
    row = st.lists(st.integers(0, 4), min_size=len(gene_ids), max_size=len(gene_ids))
    return draw(st.lists(row, min_size=1, max_size=5)), gene_ids


class TestForms:
    @given(cells(), st.integers(2, 9), st.sampled_from(TIES[:3]), st.booleans())
    def test_tokens_are_the_expressed_genes_with_their_bins(self, drawn, n_bins, ties, add_cls):
        counts, gene_ids = drawn
        tokens = encode(binned(n_bins=n_bins, ties=ties, add_cls=add_cls), make_block(np.array(counts), gene_ids))
        for number, row in enumerate(counts):
            expected = dict(sorted(reference(row, gene_ids, n_bins, ties).items()))
            assert bins_of(tokens, number) == ({VOCAB.cls_id: 0} if add_cls else {}) | expected
            ids, values = cell(tokens, number)
            assert ids[add_cls:] == list(expected)  # ascending
            assert values[add_cls:] == pytest.approx([bin_id / (n_bins - 1) for bin_id in expected.values()])
            assert values[:add_cls] == [0.0] * add_cls

    @given(cells(), st.integers(2, 12), st.sampled_from(TIES), st.integers(0, 2**62))
    def test_blocks_are_their_cells_one_after_another(self, drawn, max_genes, ties, seed):
        counts, gene_ids = drawn
        tokenizer = binned(max_genes=max_genes, ties=ties, n_bins=9)
        block = make_block(np.array(counts), gene_ids, first=7)
        keys = cell_keys(seed, block.positions)
        tokens = tokenizer.bind(block.panel).encode(block, keys)
        for number, row in enumerate(counts):
            one = tokenizer.tokenize(np.array(row), gene_ids, key=int(keys[number]))
            assert (one["input_ids"].tolist(), one["values"].tolist()) == cell(tokens, number)
            assert dict(zip(one["input_ids"].tolist(), one["bin_ids"].tolist(), strict=True)) == bins_of(tokens, number)
            assert one["attention_mask"].tolist() == [1] * len(one["input_ids"])
        assert tokens.cell_index.tolist() == block.positions.tolist()
        assert tokens.keys.tolist() == keys.tolist()

    @pytest.mark.parametrize("form", [np.asarray, lambda row: np.asarray(row)[None], lambda row: sp.csr_matrix([row])])
    def test_a_cell_may_be_an_array_a_row_or_sparse(self, form):
        found = binned(n_bins=3).tokenize(form([0, 3, 5]), NAMES[:3])
        assert found["input_ids"].tolist() == [VOCAB.cls_id, 5, 6]
        assert found["bin_ids"].tolist() == [0, 1, 2]

    def test_types(self):
        one = binned().tokenize(np.array([0, 3, 5]), NAMES[:3])
        kinds = {"input_ids": np.int64, "attention_mask": np.int64, "values": np.float32, "bin_ids": np.int64}
        assert {name: array.dtype for name, array in one.items()} == kinds
        tokens = encode(binned(), make_block([[1, 2]], NAMES[:2]))
        assert (tokens.offsets.dtype, tokens.ids.dtype) == (np.int64, np.int32)
        assert (tokens.values.dtype, tokens.bin_ids.dtype) == (np.float32, np.int32)

    def test_cells_without_known_genes_have_their_first_token_only(self):
        tokens = encode(binned(), make_block([[0, 0, 9], [1, 0, 0], [0, 0, 0]], ["g01", "g02", "unknown"]))
        assert [cell(tokens, number)[0] for number in range(3)] == [[VOCAB.cls_id], [VOCAB.cls_id, 5], [VOCAB.cls_id]]
        assert encode(binned(add_cls=False), make_block([[0]], ["g01"])).offsets.tolist() == [0, 0]

    def test_no_cells_give_no_tokens(self):
        tokens = encode(binned(), make_block(np.zeros((0, 3)), NAMES[:3]))
        assert (len(tokens), tokens.offsets.tolist(), len(tokens.bin_ids)) == (0, [0], 0)

    @pytest.mark.parametrize(
        ("values", "words"), [([-1.0, 1.0], "expression of gene 'g00' is -1.0"), ([1.0, 2.0, 3.0], r"shape \(3,\)")]
    )
    def test_values_that_are_no_cell_are_refused(self, values, words):
        with pytest.raises(DataError, match=words):
            binned().tokenize(np.array(values), NAMES[:2])

    def test_it_is_found_by_name(self):
        assert "binned_expression" in list_tokenizers()
        tokenizer = get_tokenizer("binned_expression", TokenizerConfig(max_genes=99), VOCAB)
        assert isinstance(tokenizer, BinnedExpressionTokenizer)
        assert tokenizer.describe() == "binned_expression, at most 99 tokens; 51 quantile bins a cell, ties: mid"
        assert tokenizer.provides == {"input_ids", "values", "bin_ids"}
        assert (tokenizer.expects, tokenizer.normalizes) == ("any", True)


class TestWhatDoesNotMatter:
    @settings(max_examples=20, deadline=None)
    @given(cells(), st.integers(2, 12), st.sampled_from(TIES), st.randoms(use_true_random=False))
    def test_the_order_of_the_genes_in_the_file(self, drawn, max_genes, ties, random):
        counts, gene_ids = np.array(drawn[0]), drawn[1]
        columns = list(range(len(gene_ids)))
        random.shuffle(columns)
        tokenizer = binned(max_genes=max_genes, ties=ties)
        plain = encode(tokenizer, make_block(counts, gene_ids))
        moved = encode(tokenizer, make_block(counts[:, columns], [gene_ids[i] for i in columns]))
        for name in ("offsets", "ids", "values", "bin_ids"):
            np.testing.assert_array_equal(getattr(moved, name), getattr(plain, name))
        for number in range(len(counts)):
            assert cut_of(moved, number) == cut_of(plain, number)
        np.testing.assert_array_equal(moved.measured.panels[0], plain.measured.panels[0])

    def test_genes_the_vocabulary_lacks(self):
        counts = np.random.default_rng(0).poisson(1.0, (20, 20))
        strange = np.random.default_rng(1).poisson(9.0, (20, 20))
        mixed = np.stack([counts, strange], axis=2).reshape(20, 40)
        names = [name for pair in zip(NAMES, [f"x{i}" for i in range(20)], strict=True) for name in pair]
        plain, with_strange = encode(binned(), make_block(counts, NAMES)), encode(binned(), make_block(mixed, names))
        for name in ("offsets", "ids", "values", "bin_ids"):
            np.testing.assert_array_equal(getattr(with_strange, name), getattr(plain, name))
        np.testing.assert_array_equal(with_strange.measured.panels[0], plain.measured.panels[0])

    def test_stored_zeros(self):
        counts = np.random.default_rng(2).poisson(0.5, (20, 20))
        stored, plain = (encode(binned(), make_block(counts, NAMES, zeros=zeros)) for zeros in (True, False))
        for name in ("offsets", "ids", "values", "bin_ids"):
            np.testing.assert_array_equal(getattr(stored, name), getattr(plain, name))

    def test_normalisation_and_logarithms(self):
        counts = np.random.default_rng(3).poisson(3.0, (30, 20)).astype(np.float64) + np.eye(30, 20)
        normalised = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 10_000)
        plain, other = encode(binned(), make_block(counts, NAMES)), encode(binned(), make_block(normalised, NAMES))
        np.testing.assert_array_equal(other.bin_ids, plain.bin_ids)

    def test_whether_a_gene_has_one_column_or_several(self):
        one = encode(binned(), make_block([[5, 1, 3]], ["g04", "g01", "g02"]))
        several = encode(binned(), make_block([[2, 1, 3, 3]], ["g04", "g01", "g04", "g02"]))
        assert bins_of(several, 0) == bins_of(one, 0)
        assert list(bins_of(one, 0)) == [VOCAB.cls_id, 5, 6, 8]

    def test_whether_a_column_is_stored_once_or_twice(self):
        whole = make_block([[4, 3]], NAMES[:2])
        twice = CellBlock(
            np.array([1, 3, 3], dtype=np.float32), np.array([0, 1, 0]), np.array([0, 3]), whole.panel, whole.positions
        )
        assert bins_of(encode(binned(), twice), 0) == bins_of(encode(binned(), whole), 0)


class TestTies:
    def random_bins(self, values: list[float], seeds: range, *, n_bins: int = 51) -> np.ndarray:
        """Return the bins of one cell under many keys, shape (keys, genes)."""
        counts = np.tile(values, (len(seeds), 1))
        block = make_block(counts, [f"m{i:03d}" for i in range(len(values))])
        tokenizer = binned(MANY, ties="random", add_cls=False, n_bins=n_bins)
        keys = cell_keys(0, np.array(seeds))
        return tokenizer.bind(block.panel).encode(block, keys).bin_ids.reshape(len(seeds), -1)

    def test_at_random_lie_between_lower_and_upper_and_reach_both(self):
        values = np.random.default_rng(0).geometric(0.5, 60).astype(float)
        names = [f"m{i:03d}" for i in range(60)]
        low, high = (
            encode(binned(MANY, ties=ties, add_cls=False), make_block([values], names)).bin_ids
            for ties in ("lower", "upper")
        )
        drawn = self.random_bins(values, range(400))
        assert ((low <= drawn) & (drawn <= high)).all()
        assert (drawn.min(axis=0) == low).all()
        assert (drawn.max(axis=0) == high).all()
        assert (high > low).any()

    def test_at_random_are_uniform(self):
        drawn = self.random_bins([3.0] * 20, range(500), n_bins=11)  # any of 10 bins
        counts = np.bincount(drawn.ravel(), minlength=11)[1:]
        expected = drawn.size / 10
        assert ((counts - expected) ** 2).sum() / expected < 9 + 5 * np.sqrt(2 * 9)  # chi-square of 9 degrees

    def test_at_random_are_drawn_for_each_cell_and_gene(self):
        drawn = self.random_bins([3.0] * 50, range(50))
        assert len({tuple(row) for row in drawn.tolist()}) == 50
        assert len({tuple(row) for row in drawn.T.tolist()}) == 50

    def test_at_random_depend_on_nothing_but_cell_and_gene(self):
        key, names = np.array([77], dtype=np.uint64), NAMES[:6]
        tokenizer = binned(ties="random")
        few = tokenizer.tokenize(np.array([2, 2, 0, 0, 0, 0]), names, key=int(key[0]))
        many = tokenizer.tokenize(np.array([2, 2, 2, 2, 2, 2]), names, key=int(key[0]))
        assert few["bin_ids"].tolist() == many["bin_ids"].tolist()[:3]
        again = tokenizer.tokenize(np.array([2, 2, 0, 0, 0, 0]), names, key=int(key[0]))
        assert few["bin_ids"].tolist() == again["bin_ids"].tolist()

    def test_go_to_the_middle_unless_told_otherwise(self):
        for ties, expected in (("mid", 26), ("lower", 1), ("upper", 50)):
            assert binned(ties=ties).tokenize(np.ones(3), NAMES[:3])["bin_ids"].tolist() == [0] + [expected] * 3
        assert BinnedExpressionConfig().ties == "mid"
        assert binned(n_bins=6).tokenize(np.ones(1), NAMES[:1])["bin_ids"].tolist() == [0, 3]  # of 1 to 5


class TestCut:
    def crowded(self, *, keys: np.ndarray, **options: Any) -> tuple[TokenBlock, np.ndarray]:
        """Return cells of 100 expressed genes with room for 40, and their values."""
        values = np.random.default_rng(5).permutation(np.arange(1.0, 101.0))
        block = make_block(np.tile(values, (len(keys), 1)), [f"m{i:03d}" for i in range(100)])
        return binned(MANY, max_genes=41, **options).bind(block.panel).encode(block, keys), values

    def test_keeps_as_many_genes_as_have_room(self):
        for add_cls, kept in ((True, 40), (False, 41)):
            tokens, _ = self.crowded(keys=cell_keys(0, np.arange(3)), add_cls=add_cls)
            assert tokens.lengths.tolist() == [41] * 3
            assert all(len(cut_of(tokens, number)) == 100 - kept for number in range(3))

    def test_bins_are_those_of_the_whole_cell(self):
        tokens, values = self.crowded(keys=cell_keys(0, np.arange(2)))
        whole = bins_of(encode(binned(MANY), make_block([values], [f"m{i:03d}" for i in range(100)])), 0)
        assert len(whole) == 101
        for number in range(2):
            assert bins_of(tokens, number).items() <= whole.items()

    def test_what_is_cut_is_said(self):
        tokens, _ = self.crowded(keys=cell_keys(0, np.arange(3)))
        for number in range(3):
            shown = [token for token in bins_of(tokens, number) if token != VOCAB.cls_id]
            assert sorted([*shown, *cut_of(tokens, number)]) == list(range(4, 104))
        assert tokens.measured.panels[0].tolist() == list(range(4, 104))
        assert tokens.measured.panel_index.tolist() == [0, 0, 0]

    def test_cells_with_room_lose_nothing_beside_cells_without(self):
        counts = np.ones((3, 20))
        counts[[0, 2], 5:] = 0
        tokens = encode(binned(max_genes=9), make_block(counts, NAMES))
        assert tokens.lengths.tolist() == [6, 9, 6]
        assert [len(cut_of(tokens, number)) for number in range(3)] == [0, 12, 0]

    def test_every_gene_is_kept_equally_often_and_by_a_draw_of_its_cell(self):
        tokens, _ = self.crowded(keys=cell_keys(0, np.arange(300)))
        kept = np.bincount(tokens.ids, minlength=104)[4:104]
        expected = 300 * 0.4
        assert ((kept - expected) ** 2).sum() / (expected * 0.6) < 100 + 5 * np.sqrt(2 * 100)
        assert len({tuple(bins_of(tokens, number)) for number in range(300)}) == 300

    def test_another_pass_keeps_other_genes(self):
        passes = [self.crowded(keys=cell_keys(0, np.arange(1), data_pass=number))[0] for number in (0, 0, 1)]
        assert passes[0].ids.tolist() == passes[1].ids.tolist()
        assert passes[0].ids.tolist() != passes[2].ids.tolist()


class TestShownValues:
    def test_are_shares_of_the_highest_bin_or_bin_numbers(self):
        counts = np.random.default_rng(0).poisson(2.0, (5, 20))
        block = make_block(counts, NAMES)
        unit, index = (encode(binned(n_bins=6, value_scale=scale), block) for scale in ("unit", "index"))
        np.testing.assert_array_equal(index.values, index.bin_ids)
        np.testing.assert_allclose(unit.values, unit.bin_ids / 5, rtol=1e-6)
        assert unit.values.max() == 1.0

    @pytest.mark.parametrize("scale", ["unit", "index"])
    def test_are_those_a_bin_can_be_turned_into(self, scale):
        tokenizer = binned(n_bins=6, value_scale=scale)
        tokens = encode(tokenizer, make_block(np.arange(1, 21)[None], NAMES))
        np.testing.assert_array_equal(tokenizer.bin_values()[tokens.bin_ids], tokens.values)
        assert tokenizer.bin_values().dtype == np.float32
        assert len(tokenizer.bin_values()) == 6


class TestCentres:
    def fitted(self, blocks: list[CellBlock], is_train, **options: Any) -> BinnedExpressionTokenizer:
        tokenizer = binned(**options)
        visitor = tokenizer.visitor(is_train)
        assert visitor is not None
        for block in blocks:
            visitor.update(block)
        visitor.finish()
        return tokenizer

    def expected(self, counts: np.ndarray, known: np.ndarray, *, n_bins: int, logs: bool) -> np.ndarray:
        """Return the mean expression in each bin over all cells; NaN where no value fell."""
        values: dict[int, list[float]] = {number: [] for number in range(1, n_bins)}
        names = [NAMES[i] for i in known]
        for row in counts:
            for token, bin_id in reference(row[known].tolist(), names, n_bins, "mid").items():
                count = row[known][names.index(NAMES[token - 4])]
                values[bin_id].append(np.log1p(count / row.sum() * 10_000) if logs else count)
        return np.array([0.0, *(np.mean(values[number]) if values[number] else np.nan for number in values)])

    @pytest.mark.parametrize("logs", [True, False])
    def test_are_means_over_the_training_cells_in_counts_per_ten_thousand_or_as_given(self, logs):
        counts = np.random.default_rng(0).poisson(2.0, (60, 20)).astype(float)
        if not logs:
            counts = counts * 0.37
        known = np.array([0, 3, 4, 5, 9, 12])
        genes = [name if i in known else f"x{i}" for i, name in enumerate(NAMES)]
        blocks = [make_block(counts[:25], genes), make_block(counts[25:], genes, first=25)]
        tokenizer = self.fitted(blocks, lambda positions: positions % 3 == 0, n_bins=5)
        float32 = counts[::3].astype(np.float32).astype(np.float64)
        expected = self.expected(float32, known, n_bins=5, logs=logs)
        assert not np.isnan(expected).any()
        np.testing.assert_allclose(tokenizer.centres.values, np.maximum.accumulate(expected), rtol=1e-9)
        assert tokenizer.centres.scale == ("log1p_cp10k" if logs else "as_given")

    def test_ascend_and_fill_bins_that_no_value_fell_into(self):
        # One gene a cell is in the middle bin, 26; two genes are in bins 1 and 50.
        counts = np.zeros((2, 20))
        counts[0, 0], counts[1, :2] = 5.5, (2.5, 9.5)
        centres = self.fitted([make_block(counts, NAMES)], lambda positions: positions >= 0).centres
        expected = np.interp(np.arange(51), [0, 1, 26, 50], [0.0, 2.5, 5.5, 9.5])
        np.testing.assert_allclose(centres.values, expected, rtol=1e-12)

    def test_never_descend_even_where_means_do(self):
        counts = np.zeros((2, 20))
        counts[0, 0], counts[1, :2] = 50.5, (2.5, 9.5)
        centres = self.fitted([make_block(counts, NAMES)], lambda positions: positions >= 0).centres
        assert centres.values[[1, 26, 40, 50]].tolist() == [2.5, 50.5, 50.5, 50.5]
        assert (np.diff(centres.values) >= 0).all()

    def test_know_how_many_genes_cells_express(self):
        rng = np.random.default_rng(1)
        counts = np.zeros((50, 20))
        for row, number in zip(counts, rng.integers(0, 15, 50), strict=True):
            row[rng.permutation(14)[:number]] = 1.0
        blocks = [make_block(counts[start : start + 10], NAMES, first=start) for start in (30, 0, 10, 40, 20)]
        centres = self.fitted(blocks, lambda positions: positions < 40).centres
        numbers = (counts[:40] > 0).sum(axis=1)
        expected = np.quantile(numbers[numbers > 0], np.linspace(0, 1, 101), method="lower")
        assert centres.num_genes.tolist() == expected.tolist()

    def test_one_value_that_is_no_count_is_enough(self):
        counts = np.ones((3, 20))
        counts[1, 3] = 1.5
        for order in ([0, 1, 2], [1, 0, 2]):
            blocks = [make_block(counts[[row]], NAMES, first=row) for row in order]
            assert self.fitted(blocks, lambda positions: positions >= 0).centres.scale == "as_given"
        assert self.fitted(blocks, lambda positions: positions != 1).centres.scale == "log1p_cp10k"

    def test_without_training_cells_stay_unknown(self):
        blocks = [make_block(np.zeros((2, 20)), NAMES), make_block(np.zeros((0, 20)), NAMES)]
        assert self.fitted(blocks, lambda positions: positions >= 0).centres is None
        assert self.fitted([make_block(np.ones((2, 20)), NAMES)], lambda positions: positions < 0).centres is None

    def test_use_the_ties_of_the_tokenizer(self):
        block = make_block(np.full((4, 20), 2.5), NAMES)
        for ties, expected in (("lower", [2.5, 2.5]), ("upper", [0.05, 2.5])):
            values = self.fitted([block], lambda positions: positions >= 0, ties=ties).centres.values
            assert values[[1, 50]] == pytest.approx(expected)


class TestSaving:
    def tokenizer(self) -> BinnedExpressionTokenizer:
        tokenizer = binned(n_bins=7, ties="random", max_genes=9, value_scale="index", add_cls=False)
        visitor = tokenizer.visitor(lambda positions: positions >= 0)
        visitor.update(make_block(np.random.default_rng(4).poisson(1.0, (20, 20)), NAMES))
        visitor.finish()
        return tokenizer

    def test_a_tokenizer_survives_json_exactly(self):
        tokenizer = self.tokenizer()
        again = BinnedExpressionTokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict())), VOCAB)
        assert again.config == tokenizer.config
        assert again.centres.to_dict() == tokenizer.centres.to_dict()
        block = make_block(np.random.default_rng(5).poisson(1.0, (20, 20)), NAMES)
        first, second = encode(tokenizer, block), encode(again, block)
        for name in ("offsets", "ids", "values", "bin_ids"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))

    def test_one_without_centres_does_too(self):
        assert BinnedExpressionTokenizer.from_dict(json.loads(json.dumps(binned().to_dict())), VOCAB).centres is None

    def test_another_vocabulary_is_refused(self):
        with pytest.raises(DataError, match="fitted with other genes than gene_vocab 'turned' has; take tokenizer"):
            BinnedExpressionTokenizer.from_dict(
                self.tokenizer().to_dict(), GeneVocab.from_genes(NAMES[::-1], name="turned")
            )

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"centres": {"values": [1.0]}}, "'binned_expression' is damaged: centres: 'num_genes'"),
            ({"config": {"n_bins": "many"}}, r"'binned_expression' is damaged: config\.n_bins: Input should be"),
            ({"config": None}, "tokenizer 'binned_expression' is damaged: config: "),
            ({"vocab_digest": None}, "fitted with other genes"),
        ],
    )
    def test_damaged_state_is_refused(self, change, words):
        with pytest.raises(DataError, match=words):
            BinnedExpressionTokenizer.from_dict({**self.tokenizer().to_dict(), **change}, VOCAB)

    def test_centres_of_another_number_of_bins_are_refused(self):
        state = self.tokenizer().to_dict()
        state["config"]["n_bins"] = 8
        with pytest.raises(DataError, match="it has centres of 7 bins for 8 bins"):
            BinnedExpressionTokenizer.from_dict(state, VOCAB)
