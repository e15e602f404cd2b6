"""Timing of what a loader does, stage by stage, in whatever threads it does it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge.data.gather import read_into, read_rows, row_lengths
from scmodelforge.data.loader import CellLoader
from scmodelforge.data.protocols import BoundEncoder
from scmodelforge.data.types import CellBlock, Panel, RowRange, TokenBlock

__all__ = ["Clock", "Measured", "Rows", "TimedEncoder", "TimedSource", "run_pass"]


@dataclass
class Measured:
    """A pass in numbers: seconds, those of all cores and of the consumer's thread, MiB, and bytes read."""

    seconds: float
    cpu_seconds: float
    consumer: float
    first: float
    growth: float | None
    num_read: int | None


@dataclass
class Clock:
    """Wall and CPU seconds of stages that run in several threads."""

    spent: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count the time of a block to a stage: CPU seconds, and as ``STAGE, wall`` those that passed."""
        wall, cpu = time.perf_counter(), time.thread_time()
        yield
        cpu = time.thread_time() - cpu
        wall = time.perf_counter() - wall
        with self.lock:
            self.spent[stage] = self.spent.get(stage, 0.0) + cpu
            self.spent[f"{stage}, wall"] = self.spent.get(f"{stage}, wall", 0.0) + wall


class TimedSource:
    """A source whose reads are timed."""

    def __init__(self, source: Any, clock: Clock) -> None:
        self._source, self._clock = source, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read_rows(self, file: int, rows: np.ndarray) -> CellBlock:
        """Read."""
        with self._clock.measure("reading"):
            return read_rows(self._source, file, rows)

    def read(self, rows: RowRange) -> CellBlock:
        """Read."""
        with self._clock.measure("reading"):
            cells: CellBlock = self._source.read(rows)
        return cells

    def row_lengths(self, file: int, rows: np.ndarray) -> np.ndarray | None:
        """Return what the source says."""
        return row_lengths(self._source, file, rows)

    def read_into(self, file: int, rows: np.ndarray, values: np.ndarray, columns: np.ndarray) -> bool:
        """Read."""
        with self._clock.measure("reading"):
            return read_into(self._source, file, rows, values, columns)


class TimedEncoder:
    """An encoder that is timed; bound and unbound in one."""

    def __init__(self, encoder: Any, clock: Clock) -> None:
        self._encoder, self._clock = encoder, clock

    def bind(self, panel: Panel) -> BoundEncoder:
        """Return what encodes this panel's cells."""
        return TimedEncoder(self._encoder.bind(panel), self._clock)

    def encode(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        """Tokenise."""
        with self._clock.measure("tokenising"):
            tokens: TokenBlock = self._encoder.encode(block, keys)
        return tokens


class Rows:
    """Hands on the sparse rows: columns as ids."""

    def bind(self, panel: Panel) -> BoundEncoder:
        """Return what encodes this panel's cells."""
        return self

    def encode(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        """Return the rows."""
        return TokenBlock(block.indptr, block.indices, block.data, block.positions, keys)


def run_pass(loader: CellLoader) -> Measured:
    """Load one pass and let go of the loader."""
    before, num_read = _resident(), _bytes_read()
    wall, cpu, consumer = time.perf_counter(), time.process_time(), time.thread_time()
    first = 0.0
    with loader:
        for _ in loader.one_pass():
            first = first or time.perf_counter() - wall
    after = _bytes_read()
    return Measured(
        seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - cpu,
        consumer=time.thread_time() - consumer,
        first=first,
        growth=None if before is None else max(0.0, _peak() - before),
        num_read=None if num_read is None or after is None else after - num_read,
    )


def _resident() -> float | None:
    """Return the memory of this process in MiB, on Linux."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _peak() -> float:
    """Return the most memory this process has had, in MiB, on Linux."""
    # not getrusage: a process begins with the peak of the one that started it
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) / 1024


def _bytes_read() -> int | None:
    """Return how much this process has read from files, on Linux."""
    try:
        words = Path("/proc/self/io").read_text().split()
    except OSError:
        return None
    return int(words[words.index("rchar:") + 1])
