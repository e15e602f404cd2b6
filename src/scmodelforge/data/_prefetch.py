"""Windows of several streams and what is made of their cells, ahead of need by threads or at need without them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from scmodelforge.data._threads import Threads
from scmodelforge.data._window import WindowCells

__all__ = ["Part", "Prefetch"]

_Plan = TypeVar("_Plan", bound=Sized)
_Result = TypeVar("_Result")


class Part(NamedTuple):
    """Cells ``start`` to ``stop`` of a window, which may not be read yet."""

    window: _Loading
    start: int
    stop: int

    def cells(self) -> WindowCells:
        """Return the window, once it is read."""
        return self.window.cells()

    def __len__(self) -> int:
        return self.stop - self.start


class Prefetch(Generic[_Plan]):
    """The cells of each stream, taken from front to back, and work on them.

    With threads as many windows are loaded or being loaded as there are streams, and one more for each thread and one
    to spare: those needed next. Without them a window is loaded when it is needed. What is taken does not depend on it.
    Work goes to the threads once its windows are loaded, so that none of them waits for another.

    Parameters
    ----------
    plans
        What to load, with the stream it is of, in the order of need. Drawn from in the consumer's thread. The length
        of a plan is its number of cells.
    load
        Loads a window; runs in any thread. It should give up once the event is set.
    skips
        Cells of each stream's first window that are passed over.
    num_workers
        Number of threads.
    """

    def __init__(
        self,
        plans: Iterable[tuple[int, _Plan]],
        load: Callable[[_Plan, threading.Event], WindowCells],
        *,
        skips: Mapping[int, int],
        num_workers: int,
    ) -> None:
        self._plans: Iterator[tuple[int, _Plan]] = iter(plans)
        self._load = load
        self._offsets = dict(skips)
        self._windows: dict[int, deque[_Loading]] = {stream: deque() for stream in skips}
        self._counted = threading.Lock()
        self._stopped = threading.Event()
        self._in_memory, self._most = 0, len(skips) + num_workers + 1
        self._num_workers = num_workers
        self._pool: Threads | None = None

    @property
    def num_ahead(self) -> int:
        """How much work to submit before the first result is asked for."""
        return self._num_workers + 1 if self._num_workers else 0

    def take(self, stream: int, count: int) -> list[Part]:
        """Return the next ``count`` cells of a stream, to be given to :meth:`submit`; waits for nothing."""
        parts = []
        while count:
            window = self._current(stream)
            start = self._offsets[stream]
            stop = min(start + count, window.size)
            parts.append(Part(window, start, stop))
            self._offsets[stream] = stop
            count -= stop - start
            if stop == window.size:
                self._windows[stream].popleft()
                self._offsets[stream] = 0
        return parts

    def submit(self, work: Callable[[], _Result], parts: Sequence[Part]) -> Callable[[], _Result]:
        """Have something done, by a thread where there are any, and return what gives the result.

        Parameters
        ----------
        work
            What is to be done.
        parts
            The cells it needs. Once all of a window's are used, its memory is for the next one.
        """

        def run() -> _Result:
            result = work()
            for part in parts:
                with self._counted:
                    part.window.left -= len(part)
                    is_used_up = part.window.left == 0
                    self._in_memory -= is_used_up
                if is_used_up:
                    part.window.release()
            return result

        job = self._begin(run, parts) if self._num_workers else run

        def result() -> _Result:
            self.check_open()
            try:
                return job()
            except CancelledError:  # by close(), in another thread
                self.check_open()
                raise

        return result

    def load_ahead(self) -> None:
        """Have windows loaded that are needed next, as many as there is memory for."""
        while self._num_workers and self._in_memory < self._most and self._draw():
            pass

    def check_open(self) -> None:
        """Raise an error if it was closed."""
        if self._stopped.is_set():
            msg = "the loader was closed while it was being iterated"
            raise RuntimeError(msg)

    def close(self) -> None:
        """Cancel what is not begun yet and wait until no thread is left."""
        self._stopped.set()
        if self._pool is not None:
            self._pool.close()
        for windows in self._windows.values():
            windows.clear()

    def _current(self, stream: int) -> _Loading:
        self.check_open()
        windows = self._windows[stream]
        while not windows:
            if not self._draw():
                msg = f"stream {stream} has no cells left"
                raise IndexError(msg)
        return windows[0]

    def _draw(self) -> bool:
        """Submit the next window, or without threads note what is to be loaded; say whether there was one."""
        drawn = next(self._plans, None)
        if drawn is None:
            return False
        stream, plan = drawn
        is_first = not self._windows[stream] and self._offsets[stream]
        window = _Loading(len(plan), len(plan) - self._offsets[stream] if is_first else len(plan))
        with self._counted:
            self._in_memory += 1
        if self._num_workers:
            window.future = self._threads().do(partial(self._load, plan, self._stopped))
        else:
            window.load = lambda: self._load(plan, self._stopped)
        self._windows[stream].append(window)
        return True

    def _begin(self, work: Callable[[], _Result], parts: Sequence[Part]) -> Callable[[], _Result]:
        loading = {part.window.future for part in parts if part.window.future is not None}
        return self._threads().do_after(work, loading).result

    def _threads(self) -> Threads:
        self.check_open()
        if self._pool is None:
            self._pool = Threads(self._num_workers, "scmodelforge-loader")
        return self._pool


class _Loading:
    """A window that is being loaded, or will be when it is first asked for.

    Parameters
    ----------
    size
        Its cells.
    left
        Those that are yet to be used.
    """

    def __init__(self, size: int, left: int) -> None:
        self.size, self.left = size, left
        self.future: Future[WindowCells] | None = None
        self.load: Callable[[], WindowCells] | None = None
        self._cells: WindowCells | None = None

    def cells(self) -> WindowCells:
        """Return the window, once it is read."""
        if self.future is not None:
            return self.future.result()
        if self._cells is None:
            assert self.load is not None
            self._cells = self.load()
        return self._cells

    def release(self) -> None:
        """Let go of the window."""
        self.cells().release()
        self.future = self.load = self._cells = None
