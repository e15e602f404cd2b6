"""Progress of commands that go through cells once."""

from __future__ import annotations

import sys
import time

__all__ = ["Countdown"]


class Countdown:
    """A line with cells done, cells/s and the time left: redrawn on a terminal, every 10 s in a file.

    Parameters
    ----------
    what
        The command, first word of the line.
    total
        Number of cells to do.
    """

    def __init__(self, what: str, *, total: int) -> None:
        self.what = what
        self.total = total
        self.done = 0
        self._start = time.perf_counter()
        self._last = self._start
        self._is_terminal = sys.stderr.isatty()

    def advance(self, cells: int) -> None:
        """Count some more cells as done."""
        self.done += cells
        now = time.perf_counter()
        if now - self._last >= (0.2 if self._is_terminal else 10.0):
            self._last = now
            self._write("\r" if self._is_terminal else "", "" if self._is_terminal else "\n")

    def close(self) -> None:
        """Write the last line."""
        self._write("\r" if self._is_terminal else "", "\n")

    def _write(self, before: str, after: str) -> None:
        rate = self.done / max(time.perf_counter() - self._start, 1e-9)
        left = (self.total - self.done) / rate if rate else 0.0
        line = f"{self.what}  {self.done:,}/{self.total:,} cells  {rate:,.0f} cells/s  {left:.0f} s left"
        sys.stderr.write(f"{before}{line}{after}")
        sys.stderr.flush()
