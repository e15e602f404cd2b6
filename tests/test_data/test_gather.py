"""Cells by their rows, from sources that read ranges."""

from __future__ import annotations

import numpy as np
import pytest

from scmodelforge.data.gather import gather_by_ranges, read_rows
from scmodelforge.data.types import CellBlock, RowRange
from tests.test_data.sources import MemorySource


def ranges(source: MemorySource) -> list[tuple[int, int, int]]:
    return [(rows.file, rows.start, rows.stop) for rows in source.reads]


def same(found: CellBlock, expected: CellBlock) -> None:
    for name in ("data", "indices", "indptr", "positions"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.panel is expected.panel


class TestRanges:
    @pytest.mark.parametrize(
        ("rows", "read"),
        [
            (range(64), [(1, 0, 64)]),
            ([3, 5, 20], [(1, 3, 21)]),
            ([3, 400, 401], [(1, 3, 4), (1, 400, 402)]),
            ([7], [(1, 7, 8)]),
        ],
    )
    def test_near_rows_share_one_and_far_rows_do_not(self, rows, read):
        source = MemorySource([5, 900])
        gather_by_ranges(source, 1, np.array(rows))
        assert ranges(source) == read

    def test_none_is_long(self):
        source = MemorySource([5000])
        cells = gather_by_ranges(source, 0, np.arange(0, 5000, 20))
        assert len(cells) == 250
        assert max(stop - start for _, start, stop in ranges(source)) <= 1024
        assert len(source.reads) == 5

    @pytest.mark.parametrize("rows", [[9, 3, 700, 4, 701, 5], [3], list(range(20))])
    def test_cells_come_in_the_order_asked_for(self, rows):
        source = MemorySource([10, 900])
        same(gather_by_ranges(source, 1, np.array(rows)), source.read(RowRange(1, 0, 900)).select(np.array(rows)))


def test_a_source_may_have_a_way_of_its_own():
    class Own(MemorySource):
        def read_rows(self, file, rows):
            return self.read(RowRange(file, 0, 2))

    source = Own([10])
    assert len(read_rows(source, 0, np.array([3, 1, 2]))) == 2
    assert len(read_rows(MemorySource([10]), 0, np.array([3, 1, 2]))) == 3


class TestRowsAskedForSeveralTimes:
    @pytest.mark.parametrize("rows", [[0, 2, 0], [5, 5], [899, 3, 899, 3, 3, 500], [1, 2, 3]])
    def test_are_read_once_and_given_as_often(self, rows):
        source = MemorySource([5, 900])
        everything = source.read(RowRange(1, 0, 900))
        source.reads.clear()
        found = read_rows(source, 1, np.array(rows))
        same(found, everything.select(np.array(rows)))
        assert sum(each.stop - each.start for each in source.reads) <= max(len(set(rows)), 3)

    def test_a_source_s_own_method_gets_each_row_once(self):
        class OwnSource(MemorySource):
            def read_rows(self, file, rows):
                assert len(set(rows.tolist())) == len(rows)
                return gather_by_ranges(self, file, rows)

        rows = np.array([7, 1, 7, 7])
        source = OwnSource([9])
        same(read_rows(source, 0, rows), source.read(RowRange(0, 0, 9)).select(rows))
