"""Bytes of a file by position: what chunks are read from, wherever the file lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from scmodelforge._errors import DataError

__all__ = ["ByteReader", "LocalBytes"]


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
