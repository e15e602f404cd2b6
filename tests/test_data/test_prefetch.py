from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.data._prefetch import Prefetch
from scmodelforge.data._window import LoadedWindow

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

    @pytest.mark.parametrize("num_workers", [0, 1, 2])
    def test_load_no_more_windows_than_streams_and_a_few_more(self, num_workers):
        alive = most = 0
        tokens = next(make_loader(sizes=(10,), batch_size=10).one_pass())[0]

        def load(plan, stopped):
            nonlocal alive, most
            with lock:
                alive += 1
                most = max(most, alive)
            return LoadedWindow(tokens, np.arange(10), release)

        def release():
            nonlocal alive
            with lock:
                alive -= 1

        lock = threading.Lock()
        by_need = itertools.chain([0, 1, 2], itertools.cycle([2, 1, 0]))
        plans = ((stream, None) for stream in by_need)
        windows = Prefetch(plans, load, skips={0: 0, 1: 4, 2: 8}, num_workers=num_workers)
        windows.start()
        for _ in range(20):
            for stream in range(3):
                assert sum(len(rows) for _, rows in windows.take(stream, 3)) == 3
            windows.settle()
        windows.close()
        assert most <= 3 + num_workers + 1

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_memory_is_given_back_once_nothing_taken_is_needed(self, num_workers):
        released = []
        tokens = next(make_loader(sizes=(10,), batch_size=10).one_pass())[0]

        def load(plan, stopped):
            return LoadedWindow(tokens, np.arange(10), lambda: released.append(plan))

        plans = ((0, number) for number in range(4))
        windows = Prefetch(plans, load, skips={0: 0}, num_workers=num_workers)
        windows.start()
        windows.take(0, 25)
        assert released == []
        windows.settle()
        assert released == [0, 1]
        windows.take(0, 15)
        windows.settle()
        assert released == [0, 1, 2, 3]
        with pytest.raises(IndexError, match="stream 0 has no cells left"):
            windows.take(0, 1)
        windows.close()

    def test_do_not_begin_what_is_queued_once_closed(self):
        begun = threading.Semaphore(0)

        def load(plan, stopped):
            begun.release()
            stopped.wait(timeout=5)

        plans = ((number % 4, number) for number in range(36))
        windows = Prefetch(plans, load, skips=dict.fromkeys(range(4), 0), num_workers=1)
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
