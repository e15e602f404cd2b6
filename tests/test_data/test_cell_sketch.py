"""Identities of cells, and the sketch of many: what stays the same, what differs, and what is found."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge.data import _compile
from scmodelforge.data.cell_sketch import (
    MIN_GENES,
    NO_IDENTITY,
    CellIdentities,
    CellSketch,
    SketchVisitor,
    shared_cells,
)
from scmodelforge.data.types import CellBlock, Panel
from scmodelforge.data.vocab import GeneVocab

GENES = [f"G{number}" for number in range(60)]
VOCAB = GeneVocab.from_genes(GENES, name="mine")


def counts(num_cells: int = 40, *, seed: int = 0, num_genes: int = len(GENES)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.gamma(1.0, 2.0, num_genes), (num_cells, num_genes)).astype(np.float32)


def block(values: np.ndarray, genes: list[str] = GENES, *, start: int = 0) -> CellBlock:
    matrix = sp.csr_matrix(values)
    positions = np.arange(start, start + len(values))
    return CellBlock(
        matrix.data, matrix.indices, matrix.indptr.astype(np.int64), Panel(np.array(genes), "p"), positions
    )


def identities(values: np.ndarray, genes: list[str] = GENES, vocab: GeneVocab = VOCAB, **how: int) -> np.ndarray:
    visitor = CellIdentities(vocab, len(values), **how)
    visitor.update(block(values, genes))
    return visitor.values


class TestIdentity:
    def test_is_the_same_for_other_orders_scales_and_logs(self):
        values, order = counts(), np.random.default_rng(1).permutation(len(GENES))
        logged = np.log1p(values * (np.float32(1e4) / values.sum(axis=1, keepdims=True)))
        expected = identities(values)
        assert len(np.unique(expected)) == len(values)
        for other in (logged, np.sqrt(values), values.astype(np.float64) * 3):
            np.testing.assert_array_equal(identities(other), expected)
        np.testing.assert_array_equal(identities(values[:, order], [GENES[number] for number in order]), expected)
        np.testing.assert_array_equal(identities(values[::-1])[::-1], expected)

    def test_takes_no_notice_of_unknown_genes_and_stored_zeros(self):
        values = counts()
        expected = identities(values)
        wider = np.hstack([values, np.ones((len(values), 5), dtype=np.float32)])
        np.testing.assert_array_equal(identities(wider, GENES + [f"X{number}" for number in range(5)]), expected)
        with_zeros = block(values)
        dense = CellBlock(
            values.ravel(),
            np.tile(np.arange(len(GENES)), len(values)),
            np.arange(len(values) + 1) * len(GENES),
            with_zeros.panel,
            with_zeros.positions,
        )
        visitor = CellIdentities(VOCAB, len(values))
        visitor.update(dense)
        np.testing.assert_array_equal(visitor.values, expected)

    @given(st.integers(0, 39), st.integers(0, 59), st.sampled_from([0.0, 1.0, 2.0, 1e6]))
    def test_differs_where_a_gene_comes_goes_or_changes_level(self, cell, gene, value):
        values = counts()
        found = np.unique(values[cell][values[cell] > 0])
        level = int(np.searchsorted(found[:2], values[cell, gene])) + 1 if values[cell, gene] else 0
        changed = values.copy()
        changed[cell, gene] = value
        after = np.unique(changed[cell][changed[cell] > 0])
        new = int(np.searchsorted(after[:2], value)) + 1 if value else 0
        same = identities(changed)[cell] == identities(values)[cell]
        if np.array_equal(after[:2], found[:2]):
            assert same == (min(level, 3) == min(new, 3))

    def test_of_a_longer_vocabulary_is_the_same_by_its_first_genes(self):
        values = counts()
        longer = VOCAB.extended(["N1", "N2"])
        wider = np.hstack([values, np.full((len(values), 2), 7, dtype=np.float32)])
        found = identities(wider, [*GENES, "N1", "N2"], longer, num_genes=len(GENES))
        np.testing.assert_array_equal(found, identities(values))

    def test_is_withheld_from_cells_with_few_genes(self):
        values = np.zeros((2, len(GENES)), dtype=np.float32)
        values[0, : MIN_GENES - 1] = 1
        values[1, :MIN_GENES] = 1
        assert (identities(values) == NO_IDENTITY).tolist() == [True, False]

    def test_compiled_and_in_numpy_is_the_same(self, monkeypatch):
        values = counts(200, seed=3)
        plain = identities(values)
        monkeypatch.setattr(_compile._state, "many_to_come", True)
        np.testing.assert_array_equal(identities(values), plain)


def sketch_of(values: np.ndarray, is_train: np.ndarray, *, size: int, width: int = 16):
    visitor = SketchVisitor(VOCAB, lambda rows: is_train[rows], lambda rows: ~is_train[rows], size=size)
    for start in range(0, len(values), width):
        visitor.update(block(values[start : start + width], start=start))
    return visitor.finish()


class TestSketch:
    @pytest.mark.parametrize("size", [7, 60, 1000])
    def test_keeps_the_smallest_identities_of_the_training_cells(self, size):
        values = counts(300)
        is_train = np.random.default_rng(2).random(300) < 0.7
        sketch, shared = sketch_of(values, is_train, size=size)
        expected = np.sort(identities(values)[is_train])
        np.testing.assert_array_equal(sketch.identities, expected[:size])
        assert sketch.is_whole == (size >= len(expected))
        assert shared.found == 0

    def test_finds_all_cells_of_a_set_it_holds_whole(self):
        values = counts(100)
        sketch, _ = sketch_of(values, np.ones(100, dtype=bool), size=100)
        assert sketch.shared(identities(values[::3])).share == 1
        assert sketch.shared(identities(counts(100, seed=9))).found == 0

    def test_of_a_part_of_them_estimates_the_share(self):
        values, others = counts(4000), counts(1000, seed=5)
        sketch, _ = sketch_of(values, np.ones(4000, dtype=bool), size=1000)
        half = np.concatenate([identities(values[:1000]), identities(others)])
        shared = sketch.shared(half)
        assert 300 < shared.checked < 700  # a quarter of 2,000
        assert shared.share == pytest.approx(0.5, abs=0.1)
        assert sketch.shared(identities(others)).found == 0
        assert sketch.shared(identities(others)).checked > 0

    def test_counts_held_out_cells_that_are_there_twice(self):
        values = counts(60)
        values[40:50] = values[:10]
        _, shared = sketch_of(values, np.arange(60) < 40, size=100)
        assert (shared.found, shared.checked) == (10, 20)

    def test_of_no_cells_finds_none(self):
        sketch = CellSketch(np.zeros(0, dtype=np.uint64), True, len(GENES))
        assert sketch.shared(identities(counts())).found == 0


def test_cells_of_two_sets_are_counted_once_for_each_that_is_asked_for():
    some = identities(np.vstack([counts(5), counts(3, seed=4), np.zeros((1, len(GENES)), dtype=np.float32)]))
    assert shared_cells(some, identities(counts(20))).found == 5
    assert shared_cells(some, identities(counts(20))).checked == 8
