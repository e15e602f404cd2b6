"""Cells scattered over files on the disk, so that each file, which fits in memory, holds one stretch of the output.

A file is a row of segments. A segment has six int64 (cells, values, and the bytes of its four parts) and the parts,
compressed: place of each cell in the bucket, its number of values, its columns, its values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge.data._kernels import take_rows
from scmodelforge.data._shard_writer import pack, sync_file, unpack
from scmodelforge.workflows.conversion.partial import HopelessError

__all__ = ["Buckets", "Rows"]

#: Values, columns, and number of values of each cell.
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]

_HEAD = 6
_CELLS_AT_ONCE = 2048


class Buckets:
    """The files of a shuffle.

    Parameters
    ----------
    folder
        Where they are.
    bounds
        First cell of each bucket in the output, and the end, shape (buckets + 1,), int64.
    dtype, column_dtype
        Types of values and columns.
    pool
        Threads that compress.
    """

    def __init__(self, folder: Path, bounds: np.ndarray, *, dtype: Any, column_dtype: Any, pool: Executor) -> None:
        self._folder, self._bounds, self._pool = folder, bounds, pool
        self._room = [np.empty(0) for _ in range(4)]
        self._types = [np.dtype(kind) for kind in (np.uint32, np.uint32, column_dtype, dtype)]

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def scatter(self, places: np.ndarray, data: np.ndarray, indices: np.ndarray, lengths: np.ndarray) -> None:
        """Append cells to the buckets they belong to.

        Parameters
        ----------
        places
            Place of each cell in the output, shape (n,), int64.
        data, indices, lengths
            Their values and columns, shape (nnz,), and their numbers of values, shape (n,).
        """
        number = np.searchsorted(self._bounds, places, side="right") - 1
        order = np.argsort(number, kind="stable")
        places, offsets = places[order], np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        data, indices, lengths = _take(order, offsets, data, indices)
        filled, firsts = np.unique(number[order], return_index=True)
        ends = np.append(firsts[1:], len(order))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        parts = []
        for bucket, first, end in zip(filled.tolist(), firsts.tolist(), ends.tolist(), strict=True):
            inside = slice(int(offsets[first]), int(offsets[end]))
            found = (places[first:end] - self._bounds[bucket], lengths[first:end], indices[inside], data[inside])
            parts.append([each.astype(kind, copy=False) for each, kind in zip(found, self._types, strict=True)])
        for bucket, segment in zip(filled.tolist(), self._pool.map(_segment, parts), strict=True):
            with self._path(bucket).open("ab") as file:
                file.write(segment)

    def sync(self) -> list[int]:
        """Bring all files to the disk and return their sizes in bytes."""
        sizes = []
        for bucket in range(len(self)):
            with self._path(bucket).open("ab") as file:
                sync_file(file)
                sizes.append(file.tell())
        return sizes

    def cut(self, sizes: Sequence[int]) -> None:
        """Cut the files down to what :meth:`sync` has returned at some time."""
        self._folder.mkdir(exist_ok=True)
        for bucket, size in enumerate(sizes):
            with self._path(bucket).open("ab") as file:
                file.truncate(size)

    def read(self, bucket: int) -> Iterator[Rows]:
        """Yield values, columns and numbers of values of a bucket's cells, in the order of the output, some at a time.

        Raises
        ------
        HopelessError
            If it does not hold each of its cells once.
        """
        places, lengths, indices, data = self._unpack(self._path(bucket).read_bytes())
        order = np.argsort(places)
        num_cells = int(self._bounds[bucket + 1] - self._bounds[bucket])
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        if not np.array_equal(places[order], np.arange(num_cells)) or offsets[-1] != len(data):
            msg = (
                f"{self._path(bucket)} does not hold its {num_cells:,} cells; the unfinished work was removed: "
                "repeat the command."
            )
            raise HopelessError(msg)
        for start in range(0, num_cells, _CELLS_AT_ONCE):
            yield _take(order[start : start + _CELLS_AT_ONCE], offsets, data, indices)

    def remove(self, bucket: int) -> None:
        """Delete a bucket's file."""
        self._path(bucket).unlink(missing_ok=True)

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{bucket:06}"

    def _unpack(self, packed: bytes) -> list[np.ndarray]:
        """Return the four parts of all segments, each as one array."""
        heads: list[tuple[int, list[int]]] = []
        at = 0
        while at < len(packed):
            head = np.frombuffer(packed, dtype=np.int64, count=_HEAD, offset=at).tolist()
            at += 8 * _HEAD
            heads.append((at, head))
            at += sum(head[2:])
        num_cells, num_values = (sum(head[kind] for _, head in heads) for kind in (0, 1))
        sizes = (num_cells, num_cells, num_values, num_values)
        # memory that was in use before is several times as fast as new memory
        for part, size in enumerate(sizes):
            if len(self._room[part]) < size:
                self._room[part] = np.empty(size + size // 8, dtype=self._types[part])
        found = [room[:size] for room, size in zip(self._room, sizes, strict=True)]
        jobs = []
        filled = [0, 0, 0, 0]
        for at, head in heads:
            for part, count in enumerate((head[0], head[0], head[1], head[1])):
                out = found[part][filled[part] : filled[part] + count]
                jobs.append((memoryview(packed)[at : at + head[2 + part]], out))
                at += head[2 + part]
                filled[part] += count
        for _ in self._pool.map(lambda job: unpack(*job), jobs):
            pass
        return found


def _segment(parts: list[np.ndarray]) -> bytes:
    packed = [pack(part) for part in parts]
    head = np.array([len(parts[0]), len(parts[3]), *map(len, packed)], dtype=np.int64)
    return b"".join([head.tobytes(), *packed])


def _take(rows: np.ndarray, offsets: np.ndarray, data: np.ndarray, indices: np.ndarray) -> Rows:
    """Return some rows of a ragged array."""
    lengths = np.diff(offsets)[rows]
    chosen = np.concatenate([[0], np.cumsum(lengths)])
    return take_rows(data, offsets, rows, chosen), take_rows(indices, offsets, rows, chosen), lengths
