"""Blocks of cells and of tokens."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge.data.types import BlockEncoder, CellBlock, Panel, TokenBlock

PANEL = Panel(np.array([f"g{i}" for i in range(6)], dtype=object), "cells.h5ad")


def make_cells(matrix: np.ndarray, first: int = 10) -> CellBlock:
    rows = sp.csr_matrix(matrix.astype(np.float32))
    positions = np.arange(first, first + len(matrix))
    return CellBlock(rows.data, rows.indices, rows.indptr.astype(np.int64), PANEL, positions, {"type": positions % 3})


def dense(block: CellBlock) -> np.ndarray:
    return sp.csr_matrix((block.data, block.indices, block.indptr), shape=(len(block), 6)).toarray()


def make_tokens(lengths: list[int], *, first: int = 0, bins: bool = True) -> TokenBlock:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.arange(first, first + offsets[-1], dtype=np.int32)
    cells = np.arange(len(lengths)) + first
    return TokenBlock(offsets, ids, ids / 2, cells, cells.astype(np.uint64) * 7, ids % 4 if bins else None)


def as_lists(block: TokenBlock) -> list[tuple]:
    """Return what each cell owns."""
    cells = []
    for i in range(len(block)):
        part = slice(block.offsets[i], block.offsets[i + 1])
        bins = None if block.bin_ids is None else block.bin_ids[part].tolist()
        cells.append(
            (block.ids[part].tolist(), block.values[part].tolist(), bins, int(block.cell_index[i]), int(block.keys[i]))
        )
    return cells


matrices = st.integers(0, 2**32 - 1).map(
    lambda seed: (lambda rng: rng.poisson(0.4, (rng.integers(0, 9), 6)))(np.random.default_rng(seed))
)


class TestCellBlock:
    @given(matrices, st.data())
    def test_select_gives_the_rows_asked_for_in_their_order(self, matrix, data):
        block = make_cells(matrix)
        rows = np.array(data.draw(st.lists(st.integers(0, len(matrix) - 1)) if len(matrix) else st.just([])), dtype=int)
        chosen = block.select(rows)
        np.testing.assert_array_equal(dense(chosen), matrix[rows])
        assert chosen.positions.tolist() == (rows + 10).tolist()
        assert chosen.obs["type"].tolist() == ((rows + 10) % 3).tolist()
        assert chosen.panel is PANEL
        assert chosen.indptr.dtype == np.int64

    @given(matrices)
    def test_totals_are_the_sums_of_the_rows(self, matrix):
        np.testing.assert_array_equal(make_cells(matrix).totals(), matrix.sum(axis=1))

    @pytest.mark.parametrize("empty", [[0], [3], [1, 2], [0, 1, 2, 3]])
    def test_totals_of_empty_rows_are_zero(self, empty):
        matrix = np.ones((4, 6))
        matrix[empty] = 0
        totals = make_cells(matrix).totals()
        assert totals.tolist() == matrix.sum(axis=1).tolist()
        assert totals.dtype == np.float64

    def test_totals_do_not_round_as_float32_would(self):
        block = CellBlock(
            np.array([2**24, 1, 1], np.float32), np.arange(3), np.array([0, 3]), PANEL, np.zeros(1, np.int64)
        )
        assert block.totals().tolist() == [2**24 + 2]


ragged = st.lists(st.integers(0, 5), max_size=6)


class TestTokenBlock:
    @given(ragged, st.data())
    def test_select_gives_the_cells_asked_for_in_their_order(self, lengths, data):
        block = make_tokens(lengths)
        rows = data.draw(st.lists(st.integers(0, len(lengths) - 1)) if lengths else st.just([]))
        cells = as_lists(block)
        chosen = block.select(np.array(rows, dtype=int))
        assert as_lists(chosen) == [cells[row] for row in rows]
        assert chosen.lengths.tolist() == [lengths[row] for row in rows]

    @given(st.lists(ragged, min_size=1, max_size=4), st.booleans())
    def test_concatenate_gives_all_cells_in_order(self, parts, bins):
        blocks = [make_tokens(lengths, first=100 * i, bins=bins) for i, lengths in enumerate(parts)]
        joined = TokenBlock.concatenate(blocks)
        assert as_lists(joined) == [cell for block in blocks for cell in as_lists(block)]
        assert joined.offsets.dtype == np.int64

    def test_blocks_without_bins_stay_without(self):
        block = make_tokens([2, 1], bins=False)
        assert block.select(np.array([1])).bin_ids is None
        assert TokenBlock.concatenate([block, block]).bin_ids is None


def test_an_encoder_is_known_by_its_method():
    class Encoder:
        def bind(self, panel):
            raise NotImplementedError

    assert isinstance(Encoder(), BlockEncoder)
    assert not isinstance(object(), BlockEncoder)
