"""Windows of several streams, loaded ahead of need by threads or at need without them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

import numpy as np

from scmodelforge.data._window import LoadedWindow
from scmodelforge.data.types import TokenBlock

__all__ = ["Prefetch"]

_Plan = TypeVar("_Plan")


class Prefetch(Generic[_Plan]):
    """The tokens of each stream, taken from front to back.

    With threads as many windows are loaded or being loaded as there are streams, and one more for each thread and one
    to spare: those needed next. Without them a window is loaded when it is needed. What is taken does not depend on it.

    Parameters
    ----------
    plans
        What to load, with the stream it is of, in the order of need. Drawn from in the consumer's thread.
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
        load: Callable[[_Plan, threading.Event], LoadedWindow],
        *,
        skips: Mapping[int, int],
        num_workers: int,
    ) -> None:
        self._plans: Iterator[tuple[int, _Plan]] = iter(plans)
        self._load = load
        self._offsets = dict(skips)
        self._windows: dict[int, deque[Callable[[], LoadedWindow]]] = {stream: deque() for stream in skips}
        self._used_up: list[LoadedWindow] = []
        self._stopped = threading.Event()
        self._most = len(skips) + num_workers + 1
        self._pool = ThreadPoolExecutor(num_workers, "scmodelforge-loader") if num_workers else None

    def start(self) -> None:
        """Let the threads begin. Call it once, where :meth:`close` is sure to follow."""
        if self._pool is not None:
            for _ in range(self._most):
                self._draw()

    def take(self, stream: int, count: int) -> list[tuple[TokenBlock, np.ndarray]]:
        """Return the next ``count`` cells of a stream, as blocks and rows of them; valid until :meth:`settle`."""
        parts = []
        while count:
            window = self._current(stream)
            start = self._offsets[stream]
            stop = min(start + count, len(window))
            parts.append((window.tokens, window.rows[start:stop]))
            self._offsets[stream] = stop
            count -= stop - start
            if stop == len(window):
                self._windows[stream].popleft()
                self._offsets[stream] = 0
                self._used_up.append(window)
        return parts

    def settle(self) -> None:
        """Say that nothing that was taken is needed any more: its memory is used for what is loaded next."""
        for window in self._used_up:
            window.release()
            if self._pool is not None and sum(map(len, self._windows.values())) < self._most:
                self._draw()
        self._used_up.clear()

    def close(self) -> None:
        """Cancel what is not loaded yet and wait until no thread is left."""
        self._stopped.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        for windows in self._windows.values():
            windows.clear()
        self._used_up.clear()

    def _current(self, stream: int) -> LoadedWindow:
        if self._stopped.is_set():
            msg = "the loader was closed while it was being iterated"
            raise RuntimeError(msg)
        windows = self._windows[stream]
        while not windows:
            if not self._draw():
                msg = f"stream {stream} has no cells left"
                raise IndexError(msg)
        window = windows[0]()
        if self._pool is None:
            windows[0] = lambda: window
        return window

    def _draw(self) -> bool:
        """Submit the next window, or without threads note what is to be loaded; say whether there was one."""
        drawn = next(self._plans, None)
        if drawn is None:
            return False
        stream, plan = drawn
        if self._pool is None:
            self._windows[stream].append(partial(self._load, plan, self._stopped))
        else:
            self._windows[stream].append(self._pool.submit(self._load, plan, self._stopped).result)
        return True
