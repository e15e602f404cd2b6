"""Threads that do what is urgent first."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["Threads"]

_Result = TypeVar("_Result")


class Threads:
    """Some threads, and the work that waits for them.

    Parameters
    ----------
    number
        How many.
    name
        What their names begin with.
    """

    def __init__(self, number: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(number, name)
        self._lock = threading.Lock()
        self._is_closed = False
        self._urgent: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._other: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    def do(self, work: Callable[[], _Result]) -> Future[_Result]:
        """Have something done once all that was given before is begun; after :meth:`close` it is cancelled."""
        job: Future[_Result] = Future()
        self._take(self._other, job, work)
        return job

    def do_after(self, work: Callable[[], _Result], others: set[Future[Any]]) -> Future[_Result]:
        """Have something done once other work has ended, well or not, before what is not begun then."""
        job: Future[_Result] = Future()
        # the others keep what they call in the end, perhaps for long: they must not keep the result too
        given = [(job, work)]
        left = len(others) + 1  # one for this call
        counted = threading.Lock()

        def one_less(_: object) -> None:
            nonlocal left
            with counted:
                left -= 1
                is_last = left == 0
            if is_last:
                self._take(self._urgent, *given.pop())

        for other in others:
            other.add_done_callback(one_less)
        one_less(None)
        return job

    def close(self) -> None:
        """Cancel what is not begun yet and wait until no thread is left."""
        with self._lock:
            self._is_closed = True
            waiting = [*self._urgent, *self._other]
            self._urgent.clear()
            self._other.clear()
        for job, _ in waiting:
            job.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _take(
        self, queue: deque[tuple[Future[Any], Callable[[], Any]]], job: Future[_Result], work: Callable[[], _Result]
    ) -> None:
        with self._lock:
            if not self._is_closed:
                queue.append((job, work))
                self._pool.submit(self._do_one)
                return
        job.cancel()

    def _do_one(self) -> None:
        with self._lock:
            queue = self._urgent or self._other
            if not queue:  # closed
                return
            job, work = queue.popleft()
        if not job.set_running_or_notify_cancel():
            return
        try:
            job.set_result(work())
        except BaseException as error:  # raised where the result is asked for
            job.set_exception(error)
