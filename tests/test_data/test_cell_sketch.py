"""Identities of cells, and the sketch of many: what stays the same, what differs, and what is found."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge.data import _compile
from scmodelforge.data._order_kernel import NUM_LEVELS
from scmodelforge.data.cell_sketch import (
    MIN_GENES,
    NO_IDENTITY,
    CellIdentities,
    CellSketch,
    Shared,
    SketchVisitor,
    common_genes,
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


def found_in(values: np.ndarray, names: list[str] = GENES, vocab: GeneVocab = VOCAB, **how) -> CellIdentities:
    cells = block(values, names)
    visitor = CellIdentities(vocab, [cells.panel], len(values), **how)
    visitor.update(cells)
    return visitor


def identities(values: np.ndarray, names: list[str] = GENES, vocab: GeneVocab = VOCAB, **how) -> np.ndarray:
    return found_in(values, names, vocab, **how).values


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
        visitor = CellIdentities(VOCAB, [dense.panel], len(values))
        visitor.update(dense)
        np.testing.assert_array_equal(visitor.values, expected)

    @given(st.integers(0, 39), st.integers(0, 59), st.sampled_from([0.0, 0.5, 1.0, 2.0, 1e6]))
    def test_differs_where_the_order_of_the_smallest_values_does(self, cell, gene, value):
        values = counts()
        changed = values.copy()
        changed[cell, gene] = value

        def order(row):
            smallest = np.unique(row[row > 0])[: NUM_LEVELS - 1]
            return np.where(row > 0, np.searchsorted(smallest, row), -1)

        is_same = np.array_equal(order(values[cell]), order(changed[cell]))
        assert (identities(changed)[cell] == identities(values)[cell]) == is_same

    @pytest.mark.parametrize(("num_genes", "mean"), [(60, 30.0), (100, 100.0), (140, 50.0)])
    def test_differs_between_cells_that_express_every_gene_of_a_panel(self, num_genes, mean):
        names = [f"P{number}" for number in range(num_genes)]
        values = np.random.default_rng(4).poisson(mean, (3000, num_genes)).astype(np.float32)
        found = identities(values, names, GeneVocab.from_genes(names, name="panel"))
        assert len(np.unique(found)) == len(values)

    def test_of_a_longer_vocabulary_is_the_same_by_its_first_genes(self):
        values = counts()
        longer = VOCAB.extended(["N1", "N2"])
        wider = np.hstack([values, np.full((len(values), 2), 7, dtype=np.float32)])
        found = identities(wider, [*GENES, "N1", "N2"], longer, genes=np.ones(len(GENES), dtype=bool))
        np.testing.assert_array_equal(found, identities(values))

    def test_is_withheld_from_cells_with_few_genes(self):
        values = np.zeros((2, len(GENES)), dtype=np.float32)
        values[0, : MIN_GENES - 1] = 1
        values[1, :MIN_GENES] = 1
        assert (identities(values) == NO_IDENTITY).tolist() == [True, False]

    @pytest.mark.parametrize("kind", ["counts", "large", "logged", "dense and large"])
    def test_compiled_and_in_numpy_is_the_same(self, monkeypatch, kind):
        values = counts(200, seed=3)
        if kind == "large":
            values = values * np.random.default_rng(0).integers(1, 400, values.shape).astype(np.float32)
        if kind == "dense and large":
            values = np.random.default_rng(0).integers(1, 600, values.shape).astype(np.float32)
        if kind == "logged":
            values = np.log1p(values / 7)
        plain = identities(values)
        monkeypatch.setattr(_compile._state, "many_to_come", True)
        np.testing.assert_array_equal(identities(values), plain)

    def test_is_made_of_genes_that_all_files_have(self):
        values, fewer = counts(), GENES[5:]
        panels = [block(values).panel, block(values[:, 5:], fewer).panel]
        common = common_genes(VOCAB, panels)
        np.testing.assert_array_equal(common, np.arange(60) >= 5)
        np.testing.assert_array_equal(identities(values, genes=common), identities(values[:, 5:], fewer, genes=common))
        assert found_in(values, genes=common).has_genes
        assert not found_in(values[:, 6:], GENES[6:], genes=common).has_genes


def sketch_of(values: np.ndarray, is_train: np.ndarray, *, size: int, width: int = 16):
    visitor = SketchVisitor(
        VOCAB, [block(values).panel], lambda rows: is_train[rows], lambda rows: ~is_train[rows], size=size
    )
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
        assert shared.verdict is True

    def test_of_no_cells_finds_none(self):
        sketch = CellSketch(np.zeros(0, dtype=np.uint64), True, np.ones(len(GENES), dtype=bool))
        assert sketch.shared(identities(counts())).found == 0


class TestVerdict:
    def test_is_no_where_all_cells_were_looked_for_in_vain(self):
        assert Shared(asked=100, identified=100, checked=100, found=0).verdict is False

    def test_is_yes_from_two_cells_on_and_open_for_one(self):
        assert Shared(asked=45, identified=45, checked=45, found=2).verdict is True
        assert Shared(asked=45, identified=45, checked=45, found=1).verdict is None
        assert Shared(asked=9000, identified=9000, checked=9000, found=5).verdict is False  # as many look alike

    def test_is_open_where_cells_cannot_be_told_apart(self):
        assert Shared(asked=100, identified=0, checked=0, found=0).verdict is None
        assert Shared(asked=100, identified=90, checked=90, found=0).verdict is None
        assert Shared(asked=100, identified=100, checked=100, found=4, repeated=3).verdict is None
        assert Shared(asked=100, identified=100, checked=100, found=70, repeated=3).verdict is True

    def test_is_open_where_genes_are_missing_unless_cells_were_found(self):
        assert Shared(asked=100, identified=100, checked=100, found=0, has_genes=False).verdict is None
        assert Shared(asked=100, identified=100, checked=100, found=10, has_genes=False).verdict is True

    def test_of_a_sample_needs_300_cells_to_be_no(self):
        """With 95 % confidence none of n means at most 3 / n of all: the rule of three."""
        assert Shared(asked=9000, identified=9000, checked=200, found=0, is_sample=True).verdict is None
        assert Shared(asked=9000, identified=9000, checked=400, found=0, is_sample=True).verdict is False
        assert Shared(asked=9000, identified=9000, checked=400, found=3, is_sample=True).verdict is True


def test_cells_of_two_sets_are_counted_once_for_each_that_is_asked_for():
    some = identities(np.vstack([counts(5), counts(3, seed=4), np.zeros((1, len(GENES)), dtype=np.float32)]))
    assert shared_cells(some, identities(counts(20))).found == 5
    assert shared_cells(some, identities(counts(20))).checked == 8
