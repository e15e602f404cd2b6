"""Bytes of files by position: what chunks are read from, wherever the files lie."""

from __future__ import annotations

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scmodelforge._errors import DataError

__all__ = ["ByteReader", "Descriptors", "LocalBytes", "scratch"]

#: Files of this machine open for reads by position at a time; more would meet the system's limit on open files.
_MOST_DESCRIPTORS = 64
#: Bytes that are read at a time, about, of ranges that follow each other.
_READ_AT_ONCE = 1 << 20
#: Bytes of an array of :func:`scratch` that are kept; larger ones are made anew.
_MOST_KEPT = 32 << 20


class _Memory(threading.local):
    """The arrays of :func:`scratch` of one thread."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}


_memory = _Memory()


def scratch(purpose: str, size: int) -> np.ndarray:
    """Return an array of so many bytes, shape (size,), uint8, that is this thread's until it asks for the next one.

    Fresh memory would have to be cleared by the system page by page.
    """
    if size > _MOST_KEPT:
        return np.empty(size, dtype=np.uint8)
    array = _memory.arrays.get(purpose)
    if array is None or len(array) < size:
        array = _memory.arrays[purpose] = np.empty(size + size // 4, dtype=np.uint8)
    return array[:size]


class ByteReader(Protocol):
    """A file that any number of threads read by position."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        ...

    @property
    def descriptor(self) -> int | None:
        """The open file, if it is one of this machine."""
        ...

    def ranges(self, starts: np.ndarray, sizes: np.ndarray, *, label: str) -> Iterator[bytes | memoryview]:
        """Yield some ranges of bytes, each whole, in the order given; each is valid until the next is taken.

        Parameters
        ----------
        starts, sizes
            First byte and number of bytes of each range, shape (n,), int64, in any order.
        label
            What messages call that which is read.

        Raises
        ------
        DataError
            If the file ends early or cannot be read.
        """
        ...


class LocalBytes:
    """An open file of this machine.

    Parameters
    ----------
    descriptor
        The file, open for reading. It stays the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self.descriptor).st_size

    def ranges(self, starts: np.ndarray, sizes: np.ndarray, *, label: str) -> Iterator[memoryview]:
        """Yield some ranges of bytes, each whole, in the order given; those that follow each other are read at once."""
        ends = starts + sizes
        apart = np.flatnonzero((starts[1:] != ends[:-1]) | (np.diff(np.cumsum(sizes) // _READ_AT_ONCE) != 0)) + 1
        for first, last in pairwise([0, *apart.tolist(), len(starts)]):
            begin, size = int(starts[first]), int(ends[last - 1] - starts[first])
            content = memoryview(scratch("read", size))  # type: ignore[arg-type]
            self._read(content, begin, label)
            for start, end in zip(starts[first:last].tolist(), ends[first:last].tolist(), strict=True):
                yield content[start - begin : end - begin]

    def _read(self, content: memoryview, start: int, label: str) -> None:
        size = len(content)
        found = os.preadv(self.descriptor, [content], start)
        while found < size:  # a signal or a network file system may cut a read short
            more = os.preadv(self.descriptor, [content[found:]], start + found)
            if not more:
                msg = (
                    f"{label} ends early: {size:,} bytes are needed at byte {start:,} of the file, {found:,} "
                    "are there. It is cut off or was changed while being read; copy or download it again."
                )
                raise DataError(msg)
            found += more


class Descriptors:
    """Files of this machine, opened when needed and kept open, a bounded number at a time.

    A copy by pickle or fork opens them anew.
    """

    def __init__(self) -> None:
        self._processes: dict[int, _Open] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_processes": {}}

    @contextmanager
    def reader(self, path: str | Path) -> Iterator[ByteReader]:
        """Give a file to any number of threads, open for reads by position.

        Raises
        ------
        OSError
            If it cannot be opened.
        """
        # a lock that came along with a fork may be held by a thread that is not there, so each process has an entry
        opened = self._processes.setdefault(os.getpid(), _Open())
        descriptor = opened.take(str(path))
        try:
            yield LocalBytes(descriptor)
        finally:
            opened.give_back(str(path))

    def close(self) -> None:
        """Close what this process has open and no thread is reading."""
        opened = self._processes.get(os.getpid())
        if opened is not None:
            opened.close()


class _Open:
    """The open files of one process, the one used last at the end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptors: OrderedDict[str, int] = OrderedDict()
        self._users: Counter[str] = Counter()

    def take(self, path: str) -> int:
        with self._lock:
            if path not in self._descriptors:
                if len(self._descriptors) >= _MOST_DESCRIPTORS:
                    idle = next((other for other in self._descriptors if not self._users[other]), None)
                    if idle is not None:
                        self._forget(idle)
                self._descriptors[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._descriptors.move_to_end(path)
            self._users[path] += 1
            return self._descriptors[path]

    def give_back(self, path: str) -> None:
        with self._lock:
            self._users[path] -= 1

    def close(self) -> None:
        with self._lock:
            for path in [path for path in self._descriptors if not self._users[path]]:
                self._forget(path)

    def _forget(self, path: str) -> None:
        os.close(self._descriptors.pop(path))
        del self._users[path]
