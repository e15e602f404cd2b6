"""Cells of a window lie in memory that is used again, as small as holds them, and come out as they were read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge.data._window import Taken, WindowBuffer, WindowCells, pieces
from scmodelforge.data.types import CellBlock, Panel, RowRange

#: What a file holds: for each cell the counts of its genes.
Counts = list[list[float]]


class Files:
    """Files of given counts; gene ``g`` of file ``f`` is column ``g``, of ``num_genes``."""

    def __init__(self, *files: Counts, num_genes: int = 9, obs: bool = False) -> None:
        self.counts, self._obs = files, obs
        self.panels = [Panel(np.array(["g"] * num_genes, object), f"file{n}") for n in range(len(files))]
        self.file_sizes = [len(counts) for counts in files]

    def read(self, rows: RowRange) -> CellBlock:
        found = self.counts[rows.file][rows.start : rows.stop]
        lengths = [len(cell) for cell in found]
        first = len(self.panels[0].gene_ids) - 9  # the last columns, so that large numbers occur
        return CellBlock(
            data=np.array([value for cell in found for value in cell], np.float32),
            indices=np.array([first + place for cell in found for place in range(len(cell))], np.int32),
            indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            panel=self.panels[rows.file],
            positions=np.arange(rows.start, rows.stop),
            obs={"batch": np.arange(rows.start, rows.stop, dtype=np.int32)} if self._obs else {},
        )


class DirectFiles(Files):
    """Files that are read straight into place; ``calls`` counts that."""

    calls = 0

    def read(self, rows: RowRange) -> CellBlock:
        return super().read(rows)

    def read_rows(self, file: int, rows: np.ndarray) -> CellBlock:
        pytest.fail("rows were read in another way")

    def row_lengths(self, file: int, rows: np.ndarray) -> np.ndarray:
        return np.array([len(self.counts[file][row]) for row in rows], dtype=np.int64)

    def read_into(self, file: int, rows: np.ndarray, values: np.ndarray, columns: np.ndarray) -> bool:
        self.calls += 1
        parts = [self.read(RowRange(file, row, row + 1)) for row in rows.tolist()]
        with np.errstate(invalid="ignore"):
            values[:] = np.concatenate([part.data for part in parts])
        columns[:] = np.concatenate([part.indices for part in parts])
        return bool((values == np.concatenate([part.data for part in parts])).all())


def window(
    buffer: WindowBuffer, source: Files, rows: list[list[int]], slots: list[list[int]] | None = None
) -> WindowCells:
    """Return the rows of each file as a window, at the given places or one after another."""
    count = sum(map(len, rows))
    if slots is None:
        places = np.split(np.arange(count), np.cumsum([len(chosen) for chosen in rows])[:-1])
    else:
        places = [np.array(chosen, np.int64) for chosen in slots]
    buffer.begin(count)
    for file, (chosen, here) in enumerate(zip(rows, places, strict=True)):
        if chosen:
            buffer.read(source, file, np.array(chosen), here, file)
    return buffer.finish(np.arange(count) + 50, np.arange(count, dtype=np.uint64), lambda: None)


def cell(cells: WindowCells, number: int) -> list[float]:
    start = cells.starts[number]
    return cells.values[start : start + cells.lengths[number]].tolist()


counts = st.lists(st.lists(st.integers(1, 70_000) | st.just(0.5), max_size=5), min_size=1, max_size=8)


class TestBuffer:
    @pytest.mark.parametrize("kind", [Files, DirectFiles])
    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.tuples(counts, counts), min_size=1, max_size=3), st.data())
    def test_holds_the_cells_of_the_last_time_at_their_places(self, kind, times, data):
        buffer = WindowBuffer()
        for files in times:
            source = kind(*files)
            rows = [sorted(data.draw(st.lists(st.integers(0, len(found) - 1), max_size=9))) for found in files]
            total = sum(map(len, rows))
            order = data.draw(st.permutations(range(total)))
            slots = [order[: len(rows[0])], order[len(rows[0]) :]]
            cells = window(buffer, source, rows, slots)
            assert len(cells) == total
            for file in range(2):
                for row, slot in zip(rows[file], slots[file], strict=True):
                    assert cells.panel_numbers[slot] == file
                    assert cell(cells, slot) == np.array(files[file][row], np.float32).tolist()

    def test_values_known_not_to_fit_are_read_once(self):
        source = DirectFiles([[0.5, 2]])
        buffer = WindowBuffer()
        assert cell(window(buffer, source, [[0]]), 0) == [0.5, 2]
        assert (source.calls, buffer.values_fit) == (2, False)
        another = WindowBuffer(values_fit=False)
        assert cell(window(another, source, [[0]]), 0) == [0.5, 2]
        assert source.calls == 3

    def test_memory_is_used_again(self):
        buffer, source = WindowBuffer(), Files([[1, 2, 3], [4]])
        first = window(buffer, source, [[0, 1]])
        second = window(buffer, source, [[1, 0]][:1])
        assert np.shares_memory(first.values, second.values)
        assert np.shares_memory(first.columns, second.columns)

    def test_grows_when_later_cells_are_longer_than_the_first(self):
        files = [[1.0]] * 600 + [[2.0] * 9] * 600
        cells = window(WindowBuffer(), Files(files), [[0, 1, 2, 700, 701, 900]])
        assert [cell(cells, n) for n in range(6)] == [[1], [1], [1], [2] * 9, [2] * 9, [2] * 9]

    def test_counts_take_four_bytes_a_gene(self):
        cells = window(WindowBuffer(), Files([[65_535, 1]]), [[0]])
        assert (cells.values.itemsize, cells.columns.itemsize) == (2, 2)

    @pytest.mark.parametrize("kind", [Files, DirectFiles])
    @pytest.mark.parametrize("value", [0.5, 65_536, -1, float("inf"), float("nan")])
    def test_other_values_widen_what_was_read_before_too(self, kind, value):
        buffer = WindowBuffer()
        source = kind([[65_535.0, 3.0]], [[value, 7.0]])
        cells = window(buffer, source, [[0], [0]])
        assert cell(cells, 0) == [65_535, 3]
        np.testing.assert_array_equal(cell(cells, 1), [value, 7])

    def test_more_genes_than_16_bits_can_name(self):
        source = Files([[1, 2]], num_genes=70_000)
        cells = window(WindowBuffer(), source, [[0]])
        assert cells.columns.tolist() == [69_991, 69_992]

    def test_a_repeated_row_is_read_once(self):
        source = DirectFiles([[1, 2], [3]])
        cells = window(WindowBuffer(), source, [[0, 0, 1, 1]])
        assert source.calls == 1
        assert [cell(cells, n) for n in range(4)] == [[1, 2], [1, 2], [3], [3]]
        assert len(cells.values) == 3

    def test_a_source_that_reads_rows_in_its_own_way_is_not_passed_over(self):
        class Doubling(DirectFiles):
            def read_rows(self, file, rows):
                block = Files.read(self, RowRange(file, int(rows[0]), int(rows[-1]) + 1))
                block.data *= 2
                return block

        assert cell(window(WindowBuffer(), Doubling([[1, 2]]), [[0]]), 0) == [2, 4]


def gathered(windows: list[WindowCells], window_of: list[int], rows: list[int]) -> CellBlock:
    """Return cells of whole windows in some order."""
    starts = np.cumsum([0, *map(len, windows)])
    wanted = starts[window_of] + np.array(rows)
    cells = np.sort(wanted)
    places = np.empty(len(cells), np.int64)
    places[np.searchsorted(cells, wanted)] = np.arange(len(cells))
    return Taken([(cells, 0, len(cells)) for cells in windows]).gather(cells, places)


class TestGathering:
    def test_takes_cells_of_several_windows_in_order(self):
        first = window(WindowBuffer(), Files([[1, 2], [3], []]), [[0, 1, 2]])
        second = window(WindowBuffer(), Files([[4, 5, 6], [0.5]]), [[0, 1]])
        block = gathered([first, second], [1, 0, 0, 1, 0], [1, 2, 0, 0, 1])
        parts = [part.tolist() for part in np.split(block.data, block.indptr[1:-1])]
        assert parts == [[0.5], [], [1, 2], [4, 5, 6], [3]]
        assert block.indices.tolist() == [0, 0, 1, 0, 1, 2, 0]
        assert block.positions.tolist() == [51, 52, 50, 50, 51]
        assert (block.data.dtype, block.indices.dtype) == (np.float32, np.int32)
        assert block.panel.name == "file0"

    def test_of_parts_of_windows(self):
        first = window(WindowBuffer(), Files([[1], [2], [3]]), [[0, 1, 2]])
        second = window(WindowBuffer(), Files([[4], [5]]), [[0, 1]])
        taken = Taken([(first, 1, 3), (second, 0, 1)])
        assert taken.keys.tolist() == [1, 2, 0]
        assert taken.gather(np.arange(3), np.array([2, 0, 1])).data.tolist() == [3, 4, 2]

    def test_takes_obs_codes_along(self):
        cells = window(WindowBuffer(), Files([[1], [2], [3]], obs=True), [[0, 1, 2]], [[2, 0, 1]])
        others = window(WindowBuffer(), Files([[4]]), [[0]])
        assert gathered([others, cells], [1, 1, 0, 1], [2, 0, 0, 1]).obs["batch"].tolist() == [0, 1, -1, 2]

    def test_of_one_file_among_several(self):
        cells = window(WindowBuffer(), Files([[1]], [[2], [3]]), [[0], [0, 1]])
        taken = Taken([(cells, 0, 3)])
        assert taken.panel_numbers.tolist() == [0, 1, 1]
        block = taken.gather(np.array([1, 2]), np.array([1, 0]))
        assert (block.panel.name, block.data.tolist()) == ("file1", [3, 2])


class TestPieces:
    @settings(deadline=None)
    @given(st.sets(st.integers(0, 6000), min_size=1, max_size=2400))
    def test_cover_all_rows_in_order(self, chosen):
        rows = np.array(sorted(chosen), dtype=np.int64)
        parts = pieces(rows)
        assert np.concatenate([rows[part] for part in parts]).tolist() == rows.tolist()
        assert all(len(rows[part]) < 3 * 512 for part in parts)

    def test_end_where_neighbours_end(self):
        rows = (np.arange(24)[:, None] * 1000 + np.arange(70)).ravel()
        assert [part.stop for part in pieces(rows)] == [560, 1050, 1680]

    def test_rows_without_gaps_are_cut_all_the_same(self):
        assert [part.stop for part in pieces(np.arange(1400))] == [512, 1024, 1400]
        assert [part.stop for part in pieces(np.arange(1200))] == [512, 1200]
