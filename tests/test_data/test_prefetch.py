from __future__ import annotations

import threading

import pytest

from scmodelforge._errors import DataError
from scmodelforge.data._prefetch import Prefetch

from .loading import SIZES, make_loader, take
from .sources import MemorySource, NoisyEncoder


def loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("scmodelforge-loader")]


class TestThreads:
    @pytest.mark.parametrize("num_workers", [1, 3])
    def test_any_number_gives_the_same_batches(self, num_workers):
        changes = {"batch_size": 10, "num_micro_batches": 2, "encoder": NoisyEncoder(with_bins=True)}
        assert take(make_loader(num_workers=num_workers, **changes), 14) == take(make_loader(**changes), 14)

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_each_file_is_bound_once(self, num_workers):
        encoder = NoisyEncoder()
        take(make_loader(encoder=encoder, num_workers=num_workers), 20)
        assert sorted(encoder.bound) == ["file0", "file2", "file3"]

    @pytest.mark.parametrize(("num_workers", "most"), [(0, 1), (2, 2)])
    def test_hold_the_current_and_the_next_window_of_each_stream(self, num_workers, most):
        drawn = {0: 0, 1: 0}

        def plans(stream):
            while True:
                drawn[stream] += 1
                yield 10

        tokens = next(make_loader(sizes=(10,), batch_size=10).one_pass())[0]
        windows = Prefetch(
            {stream: plans(stream) for stream in drawn},
            lambda cells, stopped: tokens,
            skips={0: 0, 1: 4},
            num_workers=num_workers,
        )
        windows.start()
        for taken in range(3, 60, 3):
            for stream, skipped in ((0, 0), (1, 4)):
                windows.take(stream, 3)
                assert drawn[stream] <= (taken + skipped) // 10 + most
        windows.close()

    def test_do_not_begin_what_is_queued_once_closed(self):
        begun = threading.Semaphore(0)

        def load(plan, stopped):
            begun.release()
            stopped.wait(timeout=5)

        windows = Prefetch({stream: iter(range(9)) for stream in range(4)}, load, skips={}, num_workers=1)
        windows.start()
        begun.acquire()
        windows.close()
        assert not begun.acquire(blocking=False)

    def test_none_is_left_after_a_pass(self):
        list(make_loader(num_workers=3).one_pass())
        assert loader_threads() == []

    def test_none_is_left_after_leaving_early(self):
        for number, _ in enumerate(make_loader(num_workers=3)):
            assert loader_threads()
            if number == 2:
                break
        assert loader_threads() == []

    def test_none_is_left_after_the_consumer_fails(self):
        def train():
            with make_loader(num_workers=2) as loader:
                for _ in loader:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train()
        assert loader_threads() == []

    def test_none_is_left_after_close(self):
        with make_loader(num_workers=2) as loader:
            batches = iter(loader)
            next(batches)
            assert loader_threads()
        assert loader_threads() == []
        with pytest.raises(RuntimeError, match="the loader was closed while it was being iterated"):
            next(batches)

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_an_error_of_the_source_reaches_the_consumer_as_it_is(self, num_workers):
        source = MemorySource(SIZES)
        source.broken_file = 2
        with pytest.raises(DataError, match="file2 is damaged in rows"):
            list(make_loader(source, num_workers=num_workers).one_pass())
        assert loader_threads() == []

    def test_time_waited_is_added_up(self):
        loader = make_loader(num_workers=1)
        assert loader.wait_seconds == 0
        take(loader, 3)
        waited = loader.wait_seconds
        assert waited > 0
        take(loader, 3)
        assert loader.wait_seconds > waited
