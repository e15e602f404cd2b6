"""Values of a one-dimensional HDF5 data set read past HDF5: chunks are found once, then read and inflated by threads.

HDF5 does all its work under one lock, so threads wait for each other and inflating is slow. Where the chunks of a data
set lie never changes, and how they are packed is simple in nearly all files: not at all, or deflate (gzip), perhaps
with the bytes shuffled before. Such chunks are read here by position, from any number of threads. Of everything else
:func:`chunk_table` says ``None``, and HDF5 reads it.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data._kernels import copy_runs
from scmodelforge.data.sources._bytes import ByteReader

deflate: Any = None
with suppress(ImportError):  # some three times as fast as zlib
    import deflate

__all__ = ["ChunkTable", "chunk_table", "copy_from_chunks"]

_ERRORS: tuple[type[Exception], ...] = (zlib.error,) if deflate is None else (deflate.DeflateError,)

#: Bytes that are read at once of values that are stored as they are.
_MOST_AT_ONCE = 1 << 20
_DEFLATE, _SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE


@dataclass(frozen=True, slots=True)
class ChunkTable:
    """Where the values of a data set lie in its file.

    Attributes
    ----------
    label
        What messages call it.
    dtype
        Type of the values, little-endian.
    size
        Number of values.
    chunk
        Values of a chunk; the last one is filled up. A data set without chunks is one of ``size``.
    offsets, sizes
        Place in the file and packed size of each chunk in bytes, shape (C,), int64.
    deflated, shuffled
        Which chunks are deflated, and of which the bytes are shuffled, shape (C,), bool.
    """

    label: str
    dtype: np.dtype[Any]
    size: int
    chunk: int
    offsets: np.ndarray
    sizes: np.ndarray
    deflated: np.ndarray
    shuffled: np.ndarray


def chunk_table(dataset: h5py.Dataset, label: str) -> ChunkTable | None:
    """Return where the chunks of a data set lie, or ``None`` if only HDF5 should read it.

    Parameters
    ----------
    dataset
        The data set, open.
    label
        What messages call it.
    """
    plist = dataset.id.get_create_plist()
    is_plain = dataset.ndim == 1 and dataset.dtype.kind in "iuf" and dataset.dtype.newbyteorder("<") == dataset.dtype
    if not is_plain or not dataset.size or plist.get_external_count() or not hasattr(os, "pread"):
        return None
    nothing = np.zeros(1, dtype=bool)
    if plist.get_layout() == h5py.h5d.CONTIGUOUS:
        offset = dataset.id.get_offset()
        if offset is None:
            return None
        size = dataset.size * dataset.dtype.itemsize
        return ChunkTable(
            label, dataset.dtype, dataset.size, dataset.size, np.array([offset]), np.array([size]), nothing, nothing
        )
    filters = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
    if plist.get_layout() != h5py.h5d.CHUNKED or filters not in ([], [_DEFLATE], [_SHUFFLE, _DEFLATE]):
        return None
    if not hasattr(dataset.id, "chunk_iter"):  # HDF5 before 1.12.3
        return None
    chunk = int(dataset.chunks[0])
    number = -(-dataset.size // chunk)
    found = np.full((3, number), -1, dtype=np.int64)

    def take(info: Any) -> None:
        found[:, info.chunk_offset[0] // chunk] = info.byte_offset, info.size, info.filter_mask

    dataset.id.chunk_iter(take)
    if (found < 0).any():  # chunks that were never written hold the fill value
        return None
    skipped = {code: (found[2] >> place) & 1 == 1 for place, code in enumerate(filters)}
    never = np.ones(number, dtype=bool)
    return ChunkTable(
        label=label,
        dtype=dataset.dtype,
        size=dataset.size,
        chunk=chunk,
        offsets=found[0],
        sizes=found[1],
        deflated=~skipped.get(_DEFLATE, never),
        shuffled=~skipped.get(_SHUFFLE, never),
    )


def copy_from_chunks(
    reader: ByteReader, table: ChunkTable, starts: np.ndarray, lengths: np.ndarray, places: np.ndarray, out: np.ndarray
) -> None:
    """Copy runs of values into an array; each chunk is read and inflated once.

    Parameters
    ----------
    reader
        The file.
    table
        Where its chunks lie.
    starts, lengths
        The runs, shape (n,), int64; ``starts`` ascending, runs apart from each other.
    places
        Where in ``out`` each run begins, shape (n,), int64.
    out
        Gets the values, converted to its type.

    Raises
    ------
    DataError
        If the file ends early or a chunk is damaged.
    """
    filled = np.flatnonzero(lengths)
    if len(filled) < len(lengths):
        starts, lengths, places = starts[filled], lengths[filled], places[filled]
    if not len(starts):
        return
    spans = _spans(table, starts, starts + lengths)
    done = 0
    for span, packed in zip(spans, reader.ranges(*_bytes_of(spans, table), label=table.label), strict=True):
        done = copy_runs(_values(packed, table, *span), span[0], starts, lengths, places, done, out)


def _spans(table: ChunkTable, starts: np.ndarray, ends: np.ndarray) -> list[tuple[int, int, int]]:
    """Return the ranges of values to read one after another, and the chunk of each."""
    if len(table.offsets) > 1 or table.deflated[0] or table.shuffled[0]:
        first, last = starts // table.chunk, (ends - 1) // table.chunk
        marks = np.zeros(int(last[-1]) + 2 - int(first[0]), dtype=np.int64)
        np.add.at(marks, first - first[0], 1)
        np.add.at(marks, last + 1 - first[0], -1)
        chunks = np.flatnonzero(np.cumsum(marks)) + int(first[0])
        return [(int(c) * table.chunk, min(int(c + 1) * table.chunk, table.size), int(c)) for c in chunks]
    is_new = np.ones(len(starts), dtype=bool)
    is_new[1:] = starts[1:] != ends[:-1]
    most = _MOST_AT_ONCE // table.dtype.itemsize
    spans = []
    for start, end in zip(starts[is_new].tolist(), ends[np.append(is_new[1:], True)].tolist(), strict=True):
        spans += [(at, min(at + most, end), 0) for at in range(start, end, most)]
    return spans


def _bytes_of(spans: list[tuple[int, int, int]], table: ChunkTable) -> tuple[np.ndarray, np.ndarray]:
    """Return the first byte and the number of bytes of each range of values."""
    first, stop, chunk = np.array(spans, dtype=np.int64).T
    width = table.dtype.itemsize
    is_whole = (table.deflated | table.shuffled)[chunk]
    skipped = np.where(is_whole, 0, (first - chunk * table.chunk) * width)
    return table.offsets[chunk] + skipped, np.where(is_whole, table.sizes[chunk], (stop - first) * width)


def _values(packed: bytes, table: ChunkTable, first: int, stop: int, chunk: int) -> np.ndarray:
    """Return the values ``first`` to ``stop``, which are a whole chunk, or part of one that is stored as it is."""
    if not (table.deflated[chunk] or table.shuffled[chunk]):
        return np.frombuffer(packed, dtype=table.dtype)
    width = table.dtype.itemsize
    raw: Any = _inflated(packed, table, chunk) if table.deflated[chunk] else packed
    if len(raw) != table.chunk * width:
        raise DataError(_damaged(table, chunk, f"holds {len(raw):,} bytes and not {table.chunk * width:,}"))
    if table.shuffled[chunk] and width > 1:
        raw = np.ascontiguousarray(np.frombuffer(raw, dtype=np.uint8).reshape(width, -1).T)
    return np.frombuffer(raw, dtype=table.dtype)[: stop - first]


def _inflated(packed: bytes, table: ChunkTable, chunk: int) -> bytes | bytearray:
    size = table.chunk * table.dtype.itemsize
    try:
        return zlib.decompress(packed, bufsize=size) if deflate is None else deflate.zlib_decompress(packed, size)
    except _ERRORS as error:
        raise DataError(_damaged(table, chunk, f"cannot be inflated ({error})")) from error


def _damaged(table: ChunkTable, chunk: int, what: str) -> str:
    first, last = chunk * table.chunk, min((chunk + 1) * table.chunk, table.size) - 1
    return (
        f"{table.label}: the chunk of values {first:,} to {last:,} {what}. The file is damaged; copy it again from "
        "where it came."
    )
