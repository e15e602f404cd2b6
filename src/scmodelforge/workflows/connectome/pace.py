"""How far a fold is, said once in a while: a fold of seconds says nothing in between, one of hours a line a while."""

from __future__ import annotations

import logging
import time

__all__ = ["Pace"]

_log = logging.getLogger(__name__)
_EVERY = 20.0  # seconds


class Pace:
    """Takes a line for whatever is done, and logs it if the last one is some time ago.

    Parameters
    ----------
    where
        What the lines begin with.
    """

    def __init__(self, where: str) -> None:
        self._where, self._last = where, time.monotonic()

    def say(self, line: str) -> None:
        """Log a line, or leave it out."""
        now = time.monotonic()
        if now - self._last >= _EVERY:
            self._last = now
            _log.info(f"{self._where}: {line}")
