"""Ranges of a file become few requests; whatever their order, each range is given out whole and in its turn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge.data.sources._requests import by_blocks, coalesced, in_order

CONTENT = np.random.default_rng(0).integers(0, 256, 6 << 20, dtype=np.uint8).tobytes()
RANGES = st.lists(st.tuples(st.integers(0, (6 << 20) - 70_000), st.integers(0, 70_000)), max_size=30)


def read(requests, needs, *, ahead=3):
    sent = []

    def fetch(request):
        return [CONTENT[start:stop] for start, stop in request.pieces]

    def submit(request):
        sent.append(request)
        return threads.submit(fetch, request)

    with ThreadPoolExecutor(2) as threads:
        return list(in_order(requests, needs, submit, ahead=ahead)), sent


def arrays(ranges):
    starts, sizes = np.array(ranges, dtype=np.int64).reshape(-1, 2).T
    return starts, sizes


class TestGivingOut:
    @given(ranges=RANGES, ahead=st.integers(1, 5))
    def test_near_ranges_share_requests_and_come_in_the_order_given(self, ranges, ahead):
        requests, needs = coalesced(*arrays(ranges))
        found, sent = read(requests, needs, ahead=ahead)
        assert found == [CONTENT[start : start + size] for start, size in ranges]
        assert len(sent) == len(requests) <= len(ranges)
        for request in requests:
            wanted = sum(stop - start for start, stop in request.pieces)
            assert request.stop - request.start <= 2 * wanted

    @given(ranges=RANGES, ahead=st.integers(1, 5))
    def test_blocks_hold_each_part_of_a_range_and_are_fetched_once(self, ranges, ahead):
        requests, needs = by_blocks(*arrays(ranges), block=1 << 16, size=len(CONTENT))
        found, sent = read(requests, needs, ahead=ahead)
        assert found == [CONTENT[start : start + size] for start, size in ranges]
        assert len(sent) == len({request.start for request in requests})
        assert all(request.start % (1 << 16) == 0 for request in requests)


class TestSending:
    def test_neighbours_are_one_request_up_to_four_mebibytes(self):
        starts = np.arange(0, 6 << 20, 50_000)[:-1]
        requests, _ = coalesced(starts, np.full(len(starts), 50_000))
        assert len(requests) == 2

    def test_what_is_far_apart_is_not_read_together(self):
        requests, _ = coalesced(*arrays([(0, 100), (2 << 20, 100)]))
        assert [(request.start, request.stop) for request in requests] == [(0, 100), (2 << 20, (2 << 20) + 100)]

    def test_requests_are_under_way_before_a_range_is_taken_but_not_all(self):
        requests, needs = coalesced(*arrays([(number << 21, 100) for number in range(3)]))
        sent = []
        with ThreadPoolExecutor(1) as threads:

            def submit(request):
                sent.append(request.start)
                return threads.submit(lambda: [b""])

            parts = in_order(requests, needs, submit, ahead=2)
            assert sent == [0, 1 << 21]
            next(parts), next(parts)
            assert sent == [0, 1 << 21, 2 << 21]
