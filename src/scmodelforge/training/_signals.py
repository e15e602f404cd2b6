"""SIGINT, SIGTERM and SIGUSR1 as a wish to stop at the end of the step."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

__all__ = ["stop_on_signals"]

#: Ctrl-C, what a scheduler sends before it kills, and what it is asked to send earlier (``sbatch --signal=USR1@120``).
_SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")

_log = logging.getLogger(__name__)


class _Stoppable(Protocol):
    stop_requested: bool


@contextmanager
def stop_on_signals(run: _Stoppable) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGUSR1 set ``run.stop_requested``; a second SIGINT raises ``KeyboardInterrupt``.

    The handlers before are put back afterwards. Outside the main thread, which alone gets signals, nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and run.stop_requested:
            raise KeyboardInterrupt
        run.stop_requested = True
        name = signal.Signals(number).name
        again = "again " if number == signal.SIGINT else ""
        _log.warning(f"{name}: saving and stopping at the end of this step; Ctrl-C {again}stops at once, unsaved")

    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]  # Windows has no SIGUSR1
    before = {number: signal.signal(number, request) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
