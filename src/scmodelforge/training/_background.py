"""One piece of work at a time, beside the thread that asks for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Background", "wait_for_all"]

#: Threads of work under way in this process.
_UNDER_WAY: set[threading.Thread] = set()


def wait_for_all(seconds: float) -> None:
    """Wait until no work is under way in this process, at most so long."""
    ends = time.monotonic() + seconds
    for thread in list(_UNDER_WAY):
        thread.join(max(0.0, ends - time.monotonic()))


class Background:
    """Does one piece of work at a time in a thread of its own.

    The thread is a daemon: a process that is told to stop at once does not wait for it.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._problem: BaseException | None = None

    @property
    def is_busy(self) -> bool:
        """Whether work is under way."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, work: Callable[[], object], *, name: str) -> None:
        """Begin with some work, after the one before has been waited for.

        Parameters
        ----------
        work
            What is done.
        name
            Name of the thread, for debuggers.
        """
        assert self._thread is None, "wait() for the work before"

        def run() -> None:
            try:
                work()
            except BaseException as problem:
                self._problem = problem
            finally:
                _UNDER_WAY.discard(threading.current_thread())

        self._thread = threading.Thread(target=run, name=name, daemon=True)
        _UNDER_WAY.add(self._thread)
        self._thread.start()

    def wait(self) -> BaseException | None:
        """Wait for the work under way, and return what it failed with."""
        if self._thread is None:
            return None
        self._thread.join()
        self._thread, problem = None, self._problem
        self._problem = None
        return problem
