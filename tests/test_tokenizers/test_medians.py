from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge._errors import DataError
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers.medians import EXACT_LIMIT, GeneMedians, MedianFit

from .cells import VOCAB, make_block

NAMES = [f"g{i:02d}" for i in range(20)]


def fit(blocks, *, is_train=lambda positions: positions >= 0, exact_limit: int = EXACT_LIMIT) -> GeneMedians:
    found: list[GeneMedians] = []
    visitor = MedianFit(VOCAB, is_train, found.append, exact_limit=exact_limit)
    for block in blocks:
        visitor.update(block)
    visitor.finish()
    return found[0]


def draw_counts(seed: int, cells: int = 60, genes: int = 20) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.gamma(0.6, 3.0, genes) * rng.gamma(3.0, 1.0, (cells, 1)))


def expected(counts: np.ndarray) -> np.ndarray:
    """Return the medians of columns g00, g01, ... as numpy has them."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 10_000
    medians = np.full(len(VOCAB), np.nan)
    for gene in range(counts.shape[1]):
        if counts[:, gene].any():
            medians[4 + gene] = np.median(shares[counts[:, gene] > 0, gene])
    return medians


def in_blocks(counts: np.ndarray, size: int = 7):
    return [make_block(counts[i : i + size], NAMES, first=i) for i in range(0, len(counts), size)]


class TestExact:
    @pytest.mark.parametrize("cells", [1, 2, 59, 60])
    def test_they_are_numpys(self, cells):
        counts = draw_counts(0, cells)
        found = fit(in_blocks(counts))
        np.testing.assert_array_equal(found.values, expected(counts))
        assert found.method == "exact"
        assert found.num_cells == np.count_nonzero(counts.sum(axis=1))
        assert found.num_genes == np.count_nonzero(counts.any(axis=0))

    def test_files_with_different_genes_are_joined(self):
        counts = draw_counts(1, 30)
        first, second = counts[:12].copy(), counts[12:].copy()
        first[:, 15:] = 0
        second[:, :4] = 0
        order = np.random.default_rng(0).permutation(np.arange(4, 20))
        blocks = [
            make_block(first[:, :15], NAMES[:15]),
            make_block(second[:, order], [NAMES[i] for i in order], first=12),
        ]
        np.testing.assert_allclose(fit(blocks).values, expected(np.concatenate([first, second])), rtol=1e-15)

    def test_unknown_genes_count_towards_the_total_and_repeated_ones_are_summed(self):
        block = make_block([[1, 2, 1]], ["g03", "unknown", "g03"])
        assert fit([block]).values[7] == 5000.0

    def test_empty_cells_are_not_counted(self):
        block = make_block([[0, 0], [1, 0], [0, 4]], ["g00", "unknown"])
        assert fit([block]).num_cells == 1


class TestSketch:
    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 1000), st.integers(1, 50), st.integers(0, 400))
    def test_it_is_at_most_one_percent_off(self, seed, cells, limit):
        counts = draw_counts(seed, cells)
        counts[:, 0] += 1
        found = fit(in_blocks(counts), exact_limit=limit)
        assert found.method == ("sketch" if np.count_nonzero(counts) > limit else "exact")
        np.testing.assert_allclose(found.values, expected(counts), rtol=0.01 + 1e-9)
        assert found.num_cells == cells

    def test_extreme_shares_are_within_its_range(self):
        counts = np.zeros((2, 20))
        counts[0, 0] = 1
        counts[1, 1:3] = 1, 8_000_000
        np.testing.assert_allclose(fit(in_blocks(counts), exact_limit=0).values, expected(counts), rtol=0.01 + 1e-9)

    def test_its_memory_is_fixed_and_small(self):
        visitor = MedianFit(VOCAB, lambda positions: positions >= 0, print, exact_limit=0)
        visitor.update(make_block(draw_counts(2, 5), NAMES))
        assert visitor._sketch.nbytes / len(VOCAB) * 20_000 < 70e6
        assert not visitor._held


class TestWhatDoesNotMatter:
    @pytest.mark.parametrize("limit", [EXACT_LIMIT, 100])
    def test_order_and_blocks_of_the_cells(self, limit):
        counts = draw_counts(3)
        shuffled = counts[np.random.default_rng(1).permutation(len(counts))]
        one, other = fit(in_blocks(counts), exact_limit=limit), fit(in_blocks(shuffled, 13), exact_limit=limit)
        np.testing.assert_array_equal(one.values, other.values)

    @pytest.mark.parametrize("limit", [EXACT_LIMIT, 100])
    def test_counts_of_validation_cells(self, limit):
        counts = draw_counts(4)
        is_train = np.random.default_rng(2).random(len(counts)) < 0.7
        changed = np.where(is_train[:, None], counts, counts[::-1] * 3 + 1)
        results = [
            fit(in_blocks(version), is_train=lambda positions: is_train[positions], exact_limit=limit)
            for version in (counts, changed)
        ]
        np.testing.assert_array_equal(results[0].values, results[1].values)
        assert results[0].num_cells == results[1].num_cells == np.count_nonzero(counts[is_train].any(axis=1))
        np.testing.assert_allclose(results[0].values, expected(counts[is_train]), rtol=0.011)


class TestNothingToFit:
    @pytest.mark.parametrize(("gene", "is_train"), [("g00", False), ("unknown", True)])
    def test_it_is_refused(self, gene, is_train):
        blocks = [make_block([[3]], [gene])]
        with pytest.raises(DataError, match="no training cell expresses a gene of gene_vocab 'twenty', so there are"):
            fit(blocks, is_train=lambda positions: np.full(len(positions), is_train))

    def test_without_medians_genes_count_as_they_are(self):
        medians = GeneMedians.none(GeneVocab.from_genes(["a"], name="one"))
        assert medians.divisors().tolist() == [1.0] * 5
        assert medians.num_genes == 0
