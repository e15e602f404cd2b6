"""Windows are encoded in pieces and collected in memory that is used again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge.data._window import TokenBuffer, pieces
from scmodelforge.data.types import TokenBlock

from .test_types import as_lists, known_of_cells, make_tokens, measured_of, ragged


def make_blocks(parts: list[list[int]], *, first: int = 0, bins: bool = True) -> list[TokenBlock]:
    blocks = []
    for number, lengths in enumerate(parts):
        block = make_tokens(lengths, first=first + 100 * number, bins=bins)
        block.measured = measured_of([((i + number) % 3, list(range(i))) for i in range(len(lengths))])
        blocks.append(block)
    return blocks


def assert_same(found: TokenBlock, blocks: list[TokenBlock]) -> None:
    expected = TokenBlock.concatenate(blocks)
    assert as_lists(found) == as_lists(expected)
    assert known_of_cells(found.measured) == known_of_cells(expected.measured)
    assert found.ids.dtype == expected.ids.dtype


class TestBuffer:
    @pytest.mark.parametrize("bins", [True, False])
    @settings(deadline=None)
    @given(st.lists(st.lists(ragged, min_size=1, max_size=4), min_size=1, max_size=4))
    def test_holds_all_blocks_of_the_last_time_and_nothing_else(self, bins, times):
        buffer = TokenBuffer()
        for number, parts in enumerate(times):
            blocks = make_blocks(parts, first=1000 * number, bins=bins)
            assert_same(buffer.collect(iter(blocks), num_cells=sum(map(len, blocks))), blocks)

    def test_memory_is_used_again(self):
        buffer = TokenBuffer()
        first = buffer.collect(iter(make_blocks([[3, 4], [2]])), num_cells=3)
        second = buffer.collect(iter(make_blocks([[2, 1], [1]])), num_cells=3)
        assert np.shares_memory(first.ids, second.ids)

    def test_grows_when_later_cells_are_longer_than_the_first(self):
        blocks = make_blocks([[1], [500], [3], [900]])
        assert_same(TokenBuffer().collect(iter(blocks), num_cells=4), blocks)

    def test_takes_values_of_another_type(self):
        buffer = TokenBuffer()
        buffer.collect(iter(make_blocks([[3], [4]])), num_cells=2)
        blocks = make_blocks([[3], [4]])
        for block in blocks:
            block.ids = block.ids.astype(np.int64) + 2**40
        assert_same(buffer.collect(iter(blocks), num_cells=2), blocks)


class TestPieces:
    @settings(deadline=None)
    @given(st.sets(st.integers(0, 3000), min_size=1, max_size=1200))
    def test_cover_all_rows_in_order(self, chosen):
        rows = np.array(sorted(chosen), dtype=np.int64)
        parts = pieces(rows)
        assert np.concatenate([rows[part] for part in parts]).tolist() == rows.tolist()
        assert all(len(rows[part]) < 3 * 256 for part in parts)

    def test_end_where_neighbours_end(self):
        rows = (np.arange(12)[:, None] * 1000 + np.arange(70)).ravel()
        ends = [part.stop for part in pieces(rows)]
        assert ends == [280, 560, 840]

    def test_rows_without_gaps_are_cut_all_the_same(self):
        assert [part.stop for part in pieces(np.arange(700))] == [256, 512, 700]
        assert [part.stop for part in pieces(np.arange(600))] == [256, 600]
