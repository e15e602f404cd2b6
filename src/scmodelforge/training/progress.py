"""Progress of training: speed, the one line a run writes, and the bar on a terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["BarReporter", "LineReporter", "Meter", "Reporter", "Status", "terminal_reporter"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Attributes
    ----------
    epoch, max_epochs
        The epoch under way, counted from 1, and their number.
    step, total_steps
        Optimiser steps done and to do.
    metrics
        The latest metrics by name.
    seconds_left
        Estimate from the steps of this session, validation and evaluation included.
    """

    epoch: int
    max_epochs: int
    step: int
    total_steps: int
    metrics: dict[str, float] = field(default_factory=dict)
    seconds_left: float | None = None

    def line(self) -> str:
        """Return the line of a log: always the same columns, in the same order and units."""
        columns = [
            f"epoch {self.epoch}/{self.max_epochs}",
            f"step {self.step:,}",
            f"train/loss {_number(self.metrics.get('train/loss'), '.3f')}",
            f"val/loss {_number(self.metrics.get('val/loss'), '.3f')}{self._floor()}",
            f"{_number(self.metrics.get('train/cells_per_second'), ',.0f')} cells/s",
            f"{_duration(self.seconds_left)} left",
        ]
        return "  ".join(columns)

    def _floor(self) -> str:
        """Return the least the validation loss can be, where terms have a floor: it would look bad without."""
        floors = [value for name, value in self.metrics.items() if name.startswith("val/") and name.endswith("_floor")]
        return f" (at least {sum(floors):.3f})" if floors else ""


class Reporter(Protocol):
    """What shows a run's progress, on the first process only."""

    def update(self, status: Status) -> None:
        """Show how far the run is; called at every logged step and at the end of each epoch."""
        ...

    def close(self) -> None:
        """Clean up; called once, also after an error."""
        ...


class LineReporter:
    """One line each time.

    Parameters
    ----------
    write
        What takes the line; by default the package's logger.
    """

    def __init__(self, write: Callable[[str], None] = _log.info) -> None:
        self._write = write

    def update(self, status: Status) -> None:
        """Write the line."""
        self._write(status.line())

    def close(self) -> None:
        """Do nothing."""


class BarReporter:
    """A bar on the terminal, redrawn in place; the package's log messages appear above it."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._handlers: list[tuple[logging.StreamHandler, Any]] = []

    def update(self, status: Status) -> None:
        """Redraw the bar; the first time, draw it."""
        if self._bar is None:
            self._open(status)
        self._bar.update(self._task, completed=status.step, description=status.line(), refresh=True)

    def close(self) -> None:
        """Leave the bar's last state on the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        for handler, stream in self._handlers:
            handler.setStream(stream)
        self._handlers.clear()

    def _open(self, status: Status) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        stderr = sys.stderr
        columns = (BarColumn(bar_width=20), TextColumn("{task.description}", markup=False))
        self._bar = Progress(*columns, console=Console(file=stderr), auto_refresh=False)
        self._task = self._bar.add_task(status.line(), total=status.total_steps)
        self._bar.start()
        # Handlers made earlier hold the real stream and would write into the bar.
        for handler in logging.getLogger("scmodelforge").handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is stderr:
                handler.setStream(sys.stderr)
                self._handlers.append((handler, stderr))


def terminal_reporter() -> Reporter:
    """Return a bar if stderr is a terminal, else lines to the package's logger."""
    return BarReporter() if sys.stderr.isatty() else LineReporter()


class Meter:
    """Cells per second and the share of time spent waiting for data, between two readings; and the time left.

    Only steps count for the speed, everything (validation, evaluation, checkpoints) for the time left.
    """

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._steps = 0
        self._cells = 0
        self._seconds = 0.0
        self._waited = 0.0

    def add(self, *, cells: int, seconds: float, waited: float) -> None:
        """Count a step: its cells over all processes, how long it took, and how much of that the loader needed."""
        self._steps += 1
        self._cells += cells
        self._seconds += seconds
        self._waited += waited

    def read(self) -> dict[str, float]:
        """Return ``train/cells_per_second`` and ``train/data_wait_share`` since the last reading."""
        seconds = max(self._seconds, 1e-9)
        speed = {
            "train/cells_per_second": self._cells / seconds,
            "train/data_wait_share": min(1.0, self._waited / seconds),
        }
        self._cells, self._seconds, self._waited = 0, 0.0, 0.0
        return speed

    def seconds_left(self, steps: int) -> float | None:
        """Return the time that some more steps will need, or ``None`` before the first."""
        return steps * (time.perf_counter() - self._began) / self._steps if self._steps else None


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
