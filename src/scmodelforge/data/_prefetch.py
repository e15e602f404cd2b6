"""Windows of several streams, loaded in order, ahead of need by threads or at need without them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from scmodelforge.data.types import TokenBlock

__all__ = ["Prefetch"]

_Plan = TypeVar("_Plan")


class Prefetch(Generic[_Plan]):
    """The tokens of each stream, taken from front to back.

    With threads the current and the next window of each stream are loaded or being loaded, without them the current
    one. What is taken does not depend on it.

    Parameters
    ----------
    plans
        What to load for each stream, window by window. Drawn from in the consumer's thread.
    load
        Loads a window; runs in any thread. It should give up once the event is set.
    skips
        Cells of each stream's first window that are passed over.
    num_workers
        Number of threads.
    """

    def __init__(
        self,
        plans: Mapping[int, Iterator[_Plan]],
        load: Callable[[_Plan, threading.Event], TokenBlock],
        *,
        skips: Mapping[int, int],
        num_workers: int,
    ) -> None:
        self._plans = plans
        self._load = load
        self._offsets = dict(skips)
        self._windows: dict[int, deque[Future[TokenBlock]]] = {stream: deque() for stream in plans}
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(num_workers, "scmodelforge-loader") if num_workers else None

    def start(self) -> None:
        """Let the threads begin. Call it once, where :meth:`close` is sure to follow."""
        for _ in ("current", "next"):  # all current windows are needed before any next one
            for stream in self._plans:
                self._submit(stream)

    def take(self, stream: int, count: int) -> list[TokenBlock]:
        """Return the next ``count`` cells of a stream, in parts that share memory with their windows."""
        parts = []
        while count:
            tokens = self._current(stream)
            start = self._offsets[stream]
            stop = min(start + count, len(tokens))
            parts.append(tokens.part(start, stop))
            self._offsets[stream] = stop
            count -= stop - start
            if stop == len(tokens):
                self._advance(stream)
        return parts

    def close(self) -> None:
        """Cancel what is not loaded yet and wait until no thread is left."""
        self._stopped.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        for windows in self._windows.values():
            windows.clear()

    def _current(self, stream: int) -> TokenBlock:
        if self._stopped.is_set():
            msg = "the loader was closed while it was being iterated"
            raise RuntimeError(msg)
        windows = self._windows[stream]
        if not windows:
            loaded: Future[TokenBlock] = Future()
            loaded.set_result(self._load(next(self._plans[stream]), self._stopped))
            windows.append(loaded)
        return windows[0].result()

    def _advance(self, stream: int) -> None:
        self._windows[stream].popleft()
        self._offsets[stream] = 0
        self._submit(stream)

    def _submit(self, stream: int) -> None:
        if self._pool is None:
            return
        plan = next(self._plans[stream], None)
        if plan is not None:
            self._windows[stream].append(self._pool.submit(self._load, plan, self._stopped))
