"""Progress of training: the one line a run writes, and the bar on a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["BarReporter", "LineReporter", "Reporter", "Status", "terminal_reporter"]

_log = logging.getLogger(__name__)

_LEAST_BAR, _WIDEST_BAR = 8, 20


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
        return self._line(f" ({', '.join([*self._terms(), *self._floor()])})" if self._terms() or self._floor() else "")

    def forms(self) -> list[str]:
        """Return the line in less and less room: first the terms go, then words and columns."""
        metrics, left = self.metrics, f"{_duration(self.seconds_left)} left"
        place = f"step {self.step:,}/{self.total_steps:,}"
        loss = f"loss {_number(metrics.get('train/loss'), '.3f')}"
        return [
            self.line(),
            self._line(f" ({self._floor()[0]})" if self._floor() else ""),
            f"{place}  {loss}  val {_number(metrics.get('val/loss'), '.3f')}  {self._speed()}  {left}",
            f"{place}  {loss}  {left}",
            f"{place}  {left}",
        ]

    def _line(self, beside: str) -> str:
        columns = [
            f"epoch {self.epoch}/{self.max_epochs}",
            f"step {self.step:,}",
            f"train/loss {_number(self.metrics.get('train/loss'), '.3f')}",
            f"val/loss {_number(self.metrics.get('val/loss'), '.3f')}{beside}",
            self._speed(),
            f"{_duration(self.seconds_left)} left",
        ]
        return "  ".join(columns)

    def _speed(self) -> str:
        return f"{_number(self.metrics.get('train/cells_per_second'), ',.0f')} cells/s"

    def _terms(self) -> list[str]:
        """Return the terms of the validation loss, where there are several."""
        names = [name.removeprefix("val/") for name in self.metrics if name.startswith("val/")]
        terms = [name for name in names if f"train/{name}" in self.metrics and name != "loss"]
        terms = [name for name in terms if not name.endswith("_floor")]
        return [f"{name} {self.metrics[f'val/{name}']:.3f}" for name in terms] if len(terms) > 1 else []

    def _floor(self) -> list[str]:
        """Return the least the validation loss can be, where terms have a floor: it would look bad without."""
        floors = [value for name, value in self.metrics.items() if name.startswith("val/") and name.endswith("_floor")]
        return [f"at least {sum(floors):.3f}"] if floors else []


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
        self._column: Any = None
        self._form, self._room = 0, 0
        self._handlers: list[tuple[logging.StreamHandler, Any]] = []

    def update(self, status: Status) -> None:
        """Redraw the bar; the first time, draw it."""
        if self._bar is None:
            self._open(status)
        width = self._bar.console.width
        text = self._fitted(status, width - _LEAST_BAR - 1)
        self._column.bar_width = max(1, min(_WIDEST_BAR, width - len(text) - 1))
        self._bar.update(self._task, completed=status.step, description=text, refresh=True)

    def _fitted(self, status: Status, room: int) -> str:
        """Return the line in the room there is; once short, it stays so while the terminal is as wide as it was."""
        forms = status.forms()
        first = self._form if room == self._room else 0
        self._form = next((n for n in range(first, len(forms)) if len(forms[n]) <= room), len(forms) - 1)
        self._room = room
        return forms[self._form]

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
        from rich.table import Column

        stderr = sys.stderr
        self._column = BarColumn(bar_width=_LEAST_BAR)
        text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
        self._bar = Progress(self._column, text, console=Console(file=stderr), auto_refresh=False)
        self._task = self._bar.add_task("", total=status.total_steps)
        self._bar.start()
        # Handlers made earlier hold the real stream and would write into the bar.
        for handler in logging.getLogger("scmodelforge").handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is stderr:
                handler.setStream(sys.stderr)
                self._handlers.append((handler, stderr))


def terminal_reporter() -> Reporter:
    """Return a bar if stderr is a terminal, else lines to the package's logger."""
    return BarReporter() if sys.stderr.isatty() else LineReporter()


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
