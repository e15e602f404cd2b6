from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge._errors import DataError
from scmodelforge.data.sampling import GlobalOrder, Window, _block_bounds, effective_block_size


def make_order(sizes=(300, 0, 200), positions=None, **changes) -> GlobalOrder:
    if positions is None:
        positions = np.arange(sum(sizes))
    given = {"seed": 0, "block_size": 8, "buffer_size": 64, "num_streams": 8, "shuffle": True, **changes}
    return GlobalOrder(sizes, positions, **given)


def windows_of(order: GlobalOrder, data_pass: int = 0) -> list[Window]:
    return [
        order.window(data_pass, stream, index)
        for stream in range(order.num_streams)
        for index in range(order.num_windows(stream))
    ]


def source_positions(order: GlobalOrder, data_pass: int = 0) -> np.ndarray:
    """Source positions by global position, from the windows; -1 where no window has the position."""
    found = np.full(order.num_cells, -1)
    for window in windows_of(order, data_pass):
        assert (found[window.global_positions] == -1).all()
        found[window.global_positions] = window.positions
    return found


def delivered(order: GlobalOrder, sizes, window: Window) -> np.ndarray:
    """Source positions of what a window reads of each file, put in window order by its slots."""
    starts = np.concatenate([[0], np.cumsum(sizes)])
    placed = np.full(len(window), -1)
    for part in window.parts:
        assert (placed[part.slots] == -1).all()
        placed[part.slots] = starts[part.file] + part.rows
    return placed


@st.composite
def selections(draw):
    sizes = draw(st.lists(st.integers(0, 120), min_size=1, max_size=4))
    total = sum(sizes)
    if not total:
        sizes, total = [1], 1
    share = draw(st.sampled_from([0.05, 0.5, 1.0]))
    chosen = np.flatnonzero(np.random.default_rng(draw(st.integers(0, 99))).random(total) < share)
    return sizes, chosen if len(chosen) else np.array([total - 1])


class TestAPassHoldsEveryCellOnce:
    @given(
        selections(),
        st.integers(1, 12),
        st.integers(1, 70),
        st.integers(1, 300),
        st.booleans(),
        st.integers(0, 3),
    )
    def test_every_selected_cell_has_one_global_position(self, selection, streams, block, buffer, shuffle, data_pass):
        sizes, positions = selection
        order = make_order(sizes, positions, num_streams=streams, block_size=block, buffer_size=buffer, shuffle=shuffle)
        assert np.array_equal(np.sort(source_positions(order, data_pass)), positions)

    @given(selections(), st.integers(1, 12), st.integers(1, 70), st.integers(1, 300), st.booleans())
    def test_the_parts_of_a_window_are_its_cells(self, selection, streams, block, buffer, shuffle):
        sizes, positions = selection
        order = make_order(sizes, positions, num_streams=streams, block_size=block, buffer_size=buffer, shuffle=shuffle)
        for window in windows_of(order):
            assert np.array_equal(delivered(order, sizes, window), window.positions)
            assert len({part.file for part in window.parts}) == len(window.parts)
            for part in window.parts:
                assert 0 <= part.rows.min() <= part.rows.max() < sizes[part.file]
                assert (np.diff(part.slots) > 0).all()

    def test_streams_differ_by_one_cell_at_most_and_may_be_empty(self):
        order = make_order([5], num_streams=8)
        assert [order.stream_size(stream) for stream in range(8)] == [1, 1, 1, 1, 1, 0, 0, 0]
        assert [order.num_windows(stream) for stream in range(8)] == [1, 1, 1, 1, 1, 0, 0, 0]

    def test_a_position_is_an_element_of_its_stream(self):
        order = make_order([13], num_streams=4, buffer_size=8)
        for window in windows_of(order):
            stream = window.global_positions[0] % 4
            assert (window.global_positions % 4 == stream).all()
            assert np.array_equal(np.diff(window.global_positions), [4] * (len(window) - 1))

    def test_an_order_without_cells_is_refused(self):
        with pytest.raises(DataError, match=r"There are no cells to load; check data\.split"):
            make_order([5], np.zeros(0, dtype=np.int64))

    @pytest.mark.parametrize("positions", [[1, 0], [0, 0], [-1, 0], [0, 5]])
    def test_positions_must_be_ascending_and_exist(self, positions):
        with pytest.raises(ValueError, match="positions must be ascending, without duplicates and below 5"):
            make_order([5], np.array(positions))

    def test_a_window_that_does_not_exist_is_refused(self):
        with pytest.raises(IndexError, match="stream 1 has 1 windows, no window 1"):
            make_order([5], num_streams=2).window(0, 1, 1)


class TestOrderDependsOnSeedAndPassOnly:
    def test_same_seed_same_order(self):
        assert np.array_equal(source_positions(make_order()), source_positions(make_order()))

    def test_another_seed_gives_another_order(self):
        assert not np.array_equal(source_positions(make_order()), source_positions(make_order(seed=1)))

    def test_consecutive_passes_differ(self):
        order = make_order()
        assert not np.array_equal(source_positions(order, 0), source_positions(order, 1))

    def test_blocks_go_to_other_streams_in_the_next_pass(self):
        order = make_order()
        first, second = (
            {cell for index in range(order.num_windows(0)) for cell in order.window(p, 0, index).positions.tolist()}
            for p in (0, 1)
        )
        assert len(first & second) < 30  # of 63

    def test_windows_may_be_asked_for_in_any_sequence(self):
        order = make_order()
        forward = [order.window(p, 3, 1).positions for p in (0, 1, 2, 3)]
        backward = [order.window(p, 3, 1).positions for p in (3, 2, 1, 0)]
        assert all(np.array_equal(a, b) for a, b in zip(forward, backward[::-1], strict=True))

    @pytest.mark.parametrize("world_size", [1, 2, 4, 8])
    def test_numbers_of_processes_that_divide_the_streams_change_nothing(self, world_size):
        order = make_order()
        assert order.for_world(world_size) is order

    @pytest.mark.parametrize(("world_size", "streams"), [(3, 9), (5, 10), (6, 12), (7, 14), (9, 9), (16, 16)])
    def test_other_numbers_raise_the_streams_to_a_multiple(self, world_size, streams):
        order = make_order().for_world(world_size)
        assert order.num_streams == streams
        assert np.array_equal(np.sort(source_positions(order)), np.arange(500))


class TestUnshuffled:
    def test_one_process_sees_the_source_in_order(self):
        order = make_order(positions=np.arange(0, 500, 3), shuffle=False).for_world(1)
        assert order.num_streams == 1
        assert np.array_equal(source_positions(order), np.arange(0, 500, 3))

    def test_each_process_sees_a_consecutive_part(self):
        order = make_order([10], shuffle=False).for_world(3)
        assert order.num_streams == 3
        assert np.array_equal(source_positions(order), [0, 4, 7, 1, 5, 8, 2, 6, 9, 3])

    def test_windows_stay_small(self):
        assert make_order([9000], buffer_size=8000, num_streams=1, shuffle=False).window_size == 1024


class TestBlocks:
    def test_blocks_begin_where_file_or_block_number_changes(self):
        sizes = np.array([70_000, 0, 30, 70_001])
        positions = np.flatnonzero(np.random.default_rng(0).random(sizes.sum()) < 0.9)
        files = np.repeat(np.arange(4), sizes)[positions]
        rows = np.concatenate([np.arange(size) for size in sizes])[positions]
        _, first = np.unique(files * 10**6 + rows // 16, return_index=True)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        assert np.array_equal(_block_bounds(positions, starts, 16), [*first, len(positions)])

    def test_blocks_keep_ranges_few_in_shuffled_windows(self):
        order = make_order([40_000], block_size=64, buffer_size=8 * 512)
        assert order.block_size == 64
        (part,) = order.window(0, 0, 1).parts
        assert np.count_nonzero(np.diff(np.sort(part.rows)) > 1) <= 512 // 64 + 1


class TestMixing:
    """Batches of a file that is stored group after group."""

    @staticmethod
    def mean_entropy(groups: np.ndarray) -> float:
        """Mean over batches of 64 cells of the entropy of their groups, in bits."""
        batches = groups[: len(groups) // 64 * 64].reshape(-1, 64)
        shares = (batches[:, :, None] == np.arange(20)).mean(axis=1)
        logs = np.log2(np.where(shares > 0, shares, 1))
        return float(-(shares * logs).sum(axis=1).mean())

    @pytest.mark.parametrize(
        ("num_cells", "block", "buffer"),
        [(700, 64, 16_384), (5_000, 64, 16_384), (20_000, 16, 4_096), (100_000, 64, 16_384)],
    )
    def test_mixing_is_close_to_a_full_shuffle(self, num_cells, block, buffer):
        groups = np.arange(num_cells) * 20 // num_cells
        order = make_order([num_cells], block_size=block, buffer_size=buffer)
        full = self.mean_entropy(np.random.default_rng(0).permutation(groups))
        assert self.mean_entropy(groups) < 0.5 * full
        assert self.mean_entropy(groups[source_positions(order)]) >= 0.95 * full

    @pytest.mark.parametrize(
        ("num_cells", "expected"), [(1, 1), (1_023, 1), (1_024, 2), (20_000, 39), (32_768, 64), (10**7, 64)]
    )
    def test_few_cells_get_small_blocks(self, num_cells, expected):
        assert effective_block_size(num_cells, 8, 64) == expected
