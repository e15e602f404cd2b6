"""Blocks of cells and of tokens."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge.data.measured import Measured
from scmodelforge.data.protocols import BlockEncoder
from scmodelforge.data.types import CellBlock, Panel, TokenBlock

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


FILES = [np.arange(10), np.arange(5, 8), np.zeros(0, dtype=np.int64)]  # tokens of the genes each file measures


def make_measured(cut: list[list[int]], files: list[int], *, panels: tuple[np.ndarray, ...] | None = None) -> Measured:
    """Return what is known of cells that lost these tokens, each of one of ``FILES``."""
    panels = tuple(FILES[number] for number in sorted(set(files))) if panels is None else panels
    place = {id(panel): number for number, panel in enumerate(panels)}
    return Measured(
        panels,
        np.array([place[id(FILES[number])] for number in files], dtype=np.int64),
        np.cumsum([0, *map(len, cut)]).astype(np.int64),
        np.array([token for tokens in cut for token in tokens], dtype=np.int32),
    )


def known_of_cells(known: Measured) -> list[tuple]:
    """Return each cell's panel, by the place of its file, and what was cut from the cell."""
    place = {id(panel): number for number, panel in enumerate(FILES)}
    cut = [
        known.cut_ids[start:stop].tolist()
        for start, stop in zip(known.cut_offsets[:-1], known.cut_offsets[1:], strict=True)
    ]
    files = [place[id(known.panels[number])] for number in known.panel_index]
    return list(zip(files, cut, strict=True))


known_cells = st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 9), max_size=3)), max_size=5)


def measured_of(cells: list[tuple[int, list[int]]], *, panels: tuple[np.ndarray, ...] | None = None) -> Measured:
    return make_measured([cut for _, cut in cells], [file for file, _ in cells], panels=panels)


class TestMeasured:
    @given(known_cells, st.data())
    def test_select_gives_the_cells_asked_for_in_their_order(self, cells, data):
        rows = data.draw(st.lists(st.integers(0, len(cells) - 1)) if cells else st.just([]))
        chosen = measured_of(cells).select(np.array(rows, dtype=int))
        assert known_of_cells(chosen) == [cells[row] for row in rows]
        assert (chosen.cut_offsets.dtype, chosen.panel_index.dtype) == (np.int64, np.int64)

    @given(st.lists(known_cells, min_size=1, max_size=4))
    def test_concatenate_gives_all_cells_and_each_file_once(self, parts):
        joined = Measured.concatenate([measured_of(cells) for cells in parts])
        assert known_of_cells(joined) == [cell for cells in parts for cell in cells]
        files = [id(panel) for panel in joined.panels]
        assert len(set(files)) == len(files)
        assert set(files) == {id(FILES[file]) for cells in parts for file, _ in cells}
        assert (joined.cut_offsets.dtype, joined.panel_index.dtype) == (np.int64, np.int64)

    def test_files_are_told_apart_by_the_array_and_not_by_what_it_holds(self):
        twins = [np.arange(3), np.arange(3)]
        parts = [Measured((twin,), np.zeros(1, np.int64), np.zeros(2, np.int64), np.zeros(0)) for twin in twins]
        joined = Measured.concatenate([*parts, parts[0]])
        assert [panel is twin for panel, twin in zip(joined.panels, twins, strict=True)] == [True, True]
        assert joined.panel_index.tolist() == [0, 1, 0]

    def test_places_of_files_may_differ_between_parts(self):
        turned = measured_of([(0, [1]), (1, [2])], panels=(FILES[1], FILES[0]))
        joined = Measured.concatenate([measured_of([(0, []), (2, [3])]), turned])
        assert known_of_cells(joined) == [(0, []), (2, [3]), (0, [1]), (1, [2])]

    @given(known_cells, st.data())
    def test_what_is_taken_apart_can_be_put_together(self, cells, data):
        known = measured_of(cells)
        border = data.draw(st.integers(0, len(cells)))
        halves = [known.select(np.arange(border)), known.select(np.arange(border, len(cells)))]
        assert known_of_cells(Measured.concatenate(halves)) == cells

    @given(ragged, st.data())
    def test_goes_along_with_its_tokens(self, lengths, data):
        cells = [(i % 3, list(range(i))) for i in range(len(lengths))]
        block = make_tokens(lengths)
        block.measured = measured_of(cells)
        rows = data.draw(st.lists(st.integers(0, len(lengths) - 1)) if lengths else st.just([]))
        chosen = block.select(np.array(rows, dtype=int))
        assert known_of_cells(chosen.measured) == [cells[row] for row in rows]
        both = TokenBlock.concatenate([block, chosen])
        assert as_lists(both) == as_lists(block) + as_lists(chosen)
        assert known_of_cells(both.measured) == cells + [cells[row] for row in rows]

    @pytest.mark.parametrize("with_measured", [True, False])
    @given(st.lists(ragged, min_size=1, max_size=4), st.randoms(use_true_random=False))
    def test_cells_gathered_from_blocks_are_those_of_all_blocks_in_one(self, with_measured, parts, random):
        blocks = []
        for number, lengths in enumerate(parts):
            block = make_tokens(lengths, first=100 * number)
            if with_measured:
                block.measured = measured_of([((i + number) % 3, list(range(i))) for i in range(len(lengths))])
            blocks.append(block)
        cells = [(number, row) for number, lengths in enumerate(parts) for row in range(len(lengths))]
        wanted = random.choices(cells, k=random.randrange(9)) if cells else []
        block_of, rows = np.array(wanted, dtype=np.int64).reshape(-1, 2).T
        found = TokenBlock.gather(blocks, block_of, rows)
        whole = TokenBlock.concatenate(blocks)
        starts = np.concatenate([[0], np.cumsum([len(block) for block in blocks])])
        expected = whole.select(starts[block_of] + rows)
        assert as_lists(found) == as_lists(expected)
        assert not any(np.shares_memory(found.ids, block.ids) for block in blocks)
        if with_measured:
            assert known_of_cells(found.measured) == known_of_cells(expected.measured)
        else:
            assert found.measured is None

    def test_blocks_without_it_stay_without(self):
        block = make_tokens([2, 1])
        assert block.select(np.array([1])).measured is None
        assert TokenBlock.concatenate([block, block]).measured is None


def test_an_encoder_is_known_by_its_method():
    class Encoder:
        def bind(self, panel):
            raise NotImplementedError

    assert isinstance(Encoder(), BlockEncoder)
    assert not isinstance(object(), BlockEncoder)
