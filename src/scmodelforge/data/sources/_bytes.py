"""Bytes of files by position: what chunks are read from, wherever the files lie."""

from __future__ import annotations

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scmodelforge._errors import DataError

__all__ = ["ByteReader", "Descriptors", "LocalBytes"]

#: Files of this machine open for reads by position at a time; more would meet the system's limit on open files.
_MOST_DESCRIPTORS = 64


class ByteReader(Protocol):
    """A file that any number of threads read by position."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        ...

    def ranges(self, starts: np.ndarray, sizes: np.ndarray, *, label: str) -> Iterator[bytes]:
        """Yield some ranges of bytes, each whole, in the order given.

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
        self._descriptor = descriptor

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._descriptor).st_size

    def ranges(self, starts: np.ndarray, sizes: np.ndarray, *, label: str) -> Iterator[bytes]:
        """Yield some ranges of bytes, each whole, in the order given; each is read when it is asked for."""
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            yield self._read(start, size, label)

    def _read(self, start: int, size: int, label: str) -> bytes:
        found = os.pread(self._descriptor, size, start)
        while len(found) < size:  # a signal or a network file system may cut a read short
            more = os.pread(self._descriptor, size - len(found), start + len(found))
            if not more:
                msg = (
                    f"{label} ends early: {size:,} bytes are needed at byte {start:,} of the file, {len(found):,} "
                    "are there. It is cut off or was changed while being read; copy or download it again."
                )
                raise DataError(msg)
            found += more
        return found


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
