from __future__ import annotations

import itertools
import threading
from contextlib import closing

import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.data._prefetch import Prefetch
from scmodelforge.data._window import WindowBuffer, WindowCells

from .loading import SIZES, make_loader, take
from .sources import MemorySource, NoisyEncoder


def loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("scmodelforge-loader")]


class Counter:
    """Loads windows of no genes, and counts those in memory."""

    def __init__(self) -> None:
        self.alive = self.most = 0
        self.released: list[int] = []
        self._lock = threading.Lock()

    def load(self, plan: range, stopped: threading.Event) -> WindowCells:
        def release() -> None:
            with self._lock:
                self.alive -= 1
                self.released.append(plan.start)

        with self._lock:
            self.alive += 1
            self.most = max(self.most, self.alive)
        buffer = WindowBuffer()
        buffer.begin(len(plan))
        return buffer.finish(np.array(plan), np.zeros(len(plan), np.uint64), release)


def work_on(windows, wanted):
    """Have the cells counted that some streams give next."""
    parts = [part for stream, count in wanted for part in windows.take(stream, count)]
    return windows.submit(lambda: sum(len(part.cells().positions[part.start : part.stop]) for part in parts), parts)


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

    @pytest.mark.parametrize("num_workers", [0, 1, 2])
    def test_load_no_more_windows_than_streams_and_a_few_more(self, num_workers):
        counter = Counter()
        by_need = itertools.chain([0, 1, 2], itertools.cycle([2, 1, 0]))
        plans = ((stream, range(10)) for stream in by_need)
        windows = Prefetch(plans, counter.load, skips={0: 0, 1: 4, 2: 8}, num_workers=num_workers)
        with closing(windows):
            for number in range(20):
                result = work_on(windows, [(stream, 3) for stream in range(3)])
                windows.load_ahead()
                assert result() == 9
                if number > 10 and num_workers:
                    assert counter.alive > 0
        assert 3 <= counter.most <= 3 + num_workers + 1

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_memory_is_given_back_once_all_work_on_it_is_done(self, num_workers):
        counter = Counter()
        plans = ((0, range(10 * number, 10 * number + 10)) for number in range(4))
        windows = Prefetch(plans, counter.load, skips={0: 5}, num_workers=num_workers)
        with closing(windows):
            first, second = work_on(windows, [(0, 3)]), work_on(windows, [(0, 17)])
            assert second() == 17
            if not num_workers:
                assert counter.released == [10]  # three cells of the first window are still to be worked on
            assert first() == 3
            assert sorted(counter.released) == [0, 10]
            assert work_on(windows, [(0, 15)])() == 15
            assert sorted(counter.released) == [0, 10, 20, 30]
            with pytest.raises(IndexError, match="stream 0 has no cells left"):
                windows.take(0, 1)

    def test_work_is_done_by_the_threads(self):
        plans = ((0, range(10)) for _ in range(2))
        with closing(Prefetch(plans, Counter().load, skips={0: 0}, num_workers=1)) as windows:
            name = windows.submit(lambda: threading.current_thread().name, windows.take(0, 10))()
        assert name.startswith("scmodelforge-loader")

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_an_error_of_the_work_is_raised_where_its_result_is_asked_for(self, num_workers):
        def fail():
            raise ZeroDivisionError

        with closing(
            Prefetch(iter([(0, range(10))]), Counter().load, skips={0: 0}, num_workers=num_workers)
        ) as windows:
            result = windows.submit(fail, windows.take(0, 5))
            with pytest.raises(ZeroDivisionError):
                result()

    def test_do_not_begin_what_is_queued_once_closed(self):
        begun = threading.Semaphore(0)

        def load(plan, stopped):
            begun.release()
            stopped.wait(timeout=5)

        plans = ((number % 4, range(10)) for number in range(36))
        windows = Prefetch(plans, load, skips=dict.fromkeys(range(4), 0), num_workers=1)
        windows.load_ahead()
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

    def test_closing_from_another_thread_says_so(self):
        entered, leave = threading.Event(), threading.Event()

        class Slow(MemorySource):
            def read(self, rows):
                entered.set()
                leave.wait(timeout=10)
                return super().read(rows)

        loader = make_loader(Slow(SIZES), num_workers=1)
        closing_thread = threading.Thread(target=lambda: (entered.wait(timeout=10), stop()))

        def stop():
            release = threading.Timer(0.1, leave.set)
            release.start()
            loader.close()

        closing_thread.start()
        with pytest.raises(RuntimeError, match="the loader was closed while it was being iterated"):
            next(iter(loader))
        closing_thread.join()

    def test_time_waited_is_added_up(self):
        loader = make_loader(num_workers=1)
        assert loader.wait_seconds == 0
        take(loader, 3)
        waited = loader.wait_seconds
        assert waited > 0
        take(loader, 3)
        assert loader.wait_seconds > waited
