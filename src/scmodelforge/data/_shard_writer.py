"""A one-dimensional array of a zarr v3 store, written value after value in shards.

zarr's own writer packs a shard when all its values are in memory. Here a chunk goes to the disk as soon as it is
full, so a shard may have any size. The layout is that of the zarr specification ("sharding_indexed", index at the
end): the packed chunks, then offset and size of each as two uint64 (both 2^64 - 1 where there is no chunk), then the
CRC-32C of these.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Executor
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

__all__ = ["MOST_OF_A_BLOCK", "ShardedArray", "crc32c", "pack", "sync_file", "unpack", "whole_shards"]

#: Bytes of a chunk that Blosc packs as one block, at most. Left to itself it divides a chunk of 64 cells in two blocks:
#: a tenth more bytes, a fifth more time to unpack.
MOST_OF_A_BLOCK = 1 << 20
_NO_CHUNK = np.iinfo(np.uint64).max


class ShardedArray:
    """Values on their way into an array. A shard has its name only when it is whole and on the disk.

    Parameters
    ----------
    folder
        The array's folder; whole shards that are in it already are kept.
    dtype
        Type of the values.
    chunk
        Values of a chunk.
    shard
        Values of a shard, a multiple of ``chunk``.
    pool
        Threads that pack chunks.
    start
        Number of the first value that will be appended; values of shards that are there already are passed over.
    """

    def __init__(self, folder: Path, dtype: Any, *, chunk: int, shard: int, pool: Executor, start: int = 0) -> None:
        self.dtype = np.dtype(dtype)
        self.chunk, self.shard = chunk, shard
        self.size = start
        self._pool = pool
        self._folder = folder / "c"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._kept = whole_shards(folder) * shard
        if start > self._kept:
            msg = f"{folder} has {self._kept} values and cannot be continued at {start}"
            raise ValueError(msg)
        self._rest = np.zeros(0, dtype=self.dtype)  # values of a chunk that is not full
        self._file: BinaryIO | None = None
        self._packed: list[int] = []  # sizes of the chunks of the open shard

    @property
    def num_whole(self) -> int:
        """How many values whole shards hold; the last shard may be filled up."""
        return self._kept

    def append(self, values: np.ndarray) -> None:
        """Write some more values, of the array's type."""
        passed_over = min(len(values), max(0, self._kept - self.size))
        self.size += len(values)
        values = values[passed_over:]
        if len(self._rest):
            missing = self.chunk - len(self._rest)
            self._rest, values = np.concatenate([self._rest, values[:missing]]), values[missing:]
            if len(self._rest) < self.chunk:
                return
            self._write([self._rest])
        whole = len(values) // self.chunk * self.chunk
        self._write(values[:whole].reshape(-1, self.chunk))
        self._rest = values[whole:].copy()

    def finish(self) -> None:
        """Write what is left, filled up with zeros to a whole chunk. ``shard`` becomes less if there is but one."""
        if len(self._rest):
            self._write([np.concatenate([self._rest, np.zeros(self.chunk - len(self._rest), dtype=self.dtype)])])
            self._rest = self._rest[:0]
        if not self._kept:  # one shard, with a place in its index for no more chunks than there are
            self.shard = max(1, len(self._packed)) * self.chunk
        if self._file is not None:
            self._close_shard()

    def close(self) -> None:
        """Let go of the open shard without finishing it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, chunks: Iterable[np.ndarray]) -> None:
        for packed in self._pool.map(pack, chunks):
            if self._file is None:
                self._file = (self._folder / f"{self._number}.writing").open("wb")
            self._file.write(packed)
            self._packed.append(len(packed))
            if len(self._packed) * self.chunk == self.shard:
                self._close_shard()

    @property
    def _number(self) -> int:
        return self._kept // self.shard

    def _close_shard(self) -> None:
        assert self._file is not None
        with self._file as file:
            file.write(_index(self._packed, self.shard // self.chunk))
            sync_file(file)
        self._file, self._packed = None, []
        name = self._folder / str(self._number)
        name.with_name(f"{name.name}.writing").replace(name)
        self._kept += self.shard


def whole_shards(folder: Path) -> int:
    """Return how many shards of an array are there, from the first on."""
    number = 0
    while (folder / "c" / str(number)).exists():
        number += 1
    return number


def pack(values: np.ndarray) -> bytes:
    """Compress values as zarr's codec blosc (lz4, level 3, bytes shuffled) does. Call it in a thread of its own.

    In the main thread blosc would use all cores, and those of other callers would wait for it.
    """
    return bytes(_blosc().encode(np.ascontiguousarray(values)))


def unpack(packed: bytes | memoryview, out: np.ndarray) -> None:
    """Decompress what :func:`pack` gave into an array of the same type and size."""
    if out.size:
        _blosc().decode(packed, out=out)


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (polynomial of Castagnoli, Braeuer & Herrmann 1993) of some bytes."""
    import google_crc32c

    return int(google_crc32c.value(data))


def sync_file(file: BinaryIO) -> None:
    """Bring what was written to the disk."""
    file.flush()
    os.fsync(file.fileno())


def _index(sizes: list[int], num_chunks: int) -> bytes:
    index = np.full((num_chunks, 2), _NO_CHUNK, dtype="<u8")
    index[: len(sizes), 0] = np.cumsum([0, *sizes[:-1]])
    index[: len(sizes), 1] = sizes
    written = index.tobytes()
    return written + crc32c(written).to_bytes(4, "little")


@cache
def _blosc() -> Any:
    from numcodecs import Blosc

    return Blosc(cname="lz4", clevel=3, shuffle=Blosc.SHUFFLE, blocksize=MOST_OF_A_BLOCK)
