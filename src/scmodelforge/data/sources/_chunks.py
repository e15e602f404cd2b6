"""Values of a one-dimensional array that lies in chunks: where they are is found once, then threads read and unpack.

HDF5 does all its work under one lock, and zarr-python much of its own in Python, so threads wait for each other. Where
the chunks of an array lie never changes, and how they are packed is simple in nearly all files. Such chunks are read
here by position, from any number of threads. The tables come from ``_hdf5`` and ``_shards``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data._kernels import copy_rows
from scmodelforge.data.sources._bytes import ByteReader, scratch
from scmodelforge.data.sources._codecs import Codec, PackingError, unpack, unpacks_parts
from scmodelforge.data.sources._together import read_and_unpack

__all__ = ["MISSING", "WHOLE_FILE", "ChunkTable", "OpenBytes", "UnreadableError", "copy_from_chunks", "is_usual_type"]

#: Opens a file by its name, for any number of threads.
OpenBytes = Callable[[str], AbstractContextManager[ByteReader]]
_Unpacked = Generator[tuple[np.ndarray, np.ndarray, np.ndarray], None, None]

#: Offset of a chunk that is not there.
MISSING = -1
#: Packed size of a chunk that is a file of its own.
WHOLE_FILE = -1
#: Bytes that are read at once of values that are stored as they are.
_MOST_AT_ONCE = 1 << 20
#: Bytes that are unpacked at a time, about; they are copied on while they are in the processor's caches.
_MOST_UNPACKED = 4 << 20


class UnreadableError(DataError):
    """Some values that cannot be read: numbers ``first`` to ``last`` of the array."""

    def __init__(self, message: str, first: int, last: int) -> None:
        super().__init__(message)
        self.first = first
        self.last = last


@dataclass(frozen=True, slots=True)
class ChunkTable:
    """Where the values of an array lie.

    Attributes
    ----------
    label
        What messages call it.
    dtype
        Type of the values, little-endian.
    size
        Number of values.
    chunk
        Values of a chunk; the last one is filled up. An array without chunks is one of ``size``.
    offsets, sizes
        Place in its file and packed size of each chunk in bytes, shape (C,), int64; see :data:`MISSING` and
        :data:`WHOLE_FILE`.
    codecs
        The ways of packing that occur.
    codec
        Which of them each chunk has, shape (C,), uint8.
    key
        Name of the file, or how the names of numbered files begin.
    key_end
        How the names of numbered files end.
    per_file
        Chunks of each numbered file; 0 if all are in one.
    """

    label: str
    dtype: np.dtype[Any]
    size: int
    chunk: int
    offsets: np.ndarray
    sizes: np.ndarray
    codecs: tuple[Codec, ...]
    codec: np.ndarray
    key: str = ""
    key_end: str = ""
    per_file: int = 0

    def key_of(self, chunk: int) -> str:
        """Return the name of the file that holds a chunk."""
        return f"{self.key}{chunk // self.per_file}{self.key_end}" if self.per_file else self.key

    def unreadable(self, chunk: int, what: str) -> UnreadableError:
        """Return the error for a chunk; ``what`` is what there is to say of it."""
        first, last = chunk * self.chunk, min((chunk + 1) * self.chunk, self.size) - 1
        msg = f"{self.label}: the chunk of values {first:,} to {last:,} {what}"
        return UnreadableError(msg, first, last)

    def lost(self, chunk: int) -> UnreadableError:
        """Return the error for a chunk that is not there: by zarr's rules zeros, but values would be lost."""
        what = (
            f"is not there (in {self.key_of(chunk)}); copy the store again from where it came, or if all of it is 0, "
            "write it with zarr's setting array.write_empty_chunks on."
        )
        return self.unreadable(chunk, what)


def is_usual_type(dtype: np.dtype[Any]) -> bool:
    """Tell whether values of a type can be read as they lie there: whole numbers, float32 or float64, little-endian."""
    return (dtype.kind in "iu" or dtype in (np.float32, np.float64)) and dtype.newbyteorder("<") == dtype


def copy_from_chunks(
    open_bytes: OpenBytes,
    table: ChunkTable,
    starts: np.ndarray,
    lengths: np.ndarray,
    places: np.ndarray,
    out: np.ndarray,
    *,
    check: Callable[[np.ndarray], None] | None = None,
) -> None:
    """Copy runs of values into an array; each chunk is read and unpacked once.

    Parameters
    ----------
    open_bytes
        What opens the files that hold the chunks.
    table
        Where they lie.
    starts, lengths
        The runs, shape (n,), int64; ``starts`` ascending, runs apart from each other.
    places
        Where in ``out`` each run begins, shape (n,), int64.
    out
        Gets the values, converted to its type.
    check
        Shown the values of each chunk before they are converted.

    Raises
    ------
    UnreadableError
        If a file ends early, or a chunk is not there or is damaged.
    """
    filled = np.flatnonzero(lengths)
    if len(filled) < len(lengths):
        starts, lengths, places = starts[filled], lengths[filled], places[filled]
    if not len(starts):
        return
    starts, lengths, places = _joined(starts, lengths, places)
    ends = starts + lengths
    for values, low, origins in _unpacked(open_bytes, table, _spans(table, starts, ends)):
        if check is not None:
            check(values)
        # runs that have values here, and which of these
        first, last = np.searchsorted(ends, low[0], side="right"), np.searchsorted(starts, low[-1])
        begin, end = np.maximum(starts[first:last], low[0]), np.minimum(ends[first:last], low[-1])
        span = np.searchsorted(low, begin, side="right") - 1
        shift = begin - starts[first:last]
        copy_rows(values, begin + origins[span], end - begin, places[first:last] + shift, out)


def _joined(starts: np.ndarray, lengths: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return runs of which those are one that follow each other, and go to places that do."""
    is_new = np.ones(len(starts), dtype=bool)
    is_new[1:] = (starts[1:] != starts[:-1] + lengths[:-1]) | (places[1:] != places[:-1] + lengths[:-1])
    first = np.flatnonzero(is_new)
    return starts[first], np.add.reduceat(lengths, first), places[first]


def _unpacked(open_bytes: OpenBytes, table: ChunkTable, spans: np.ndarray) -> _Unpacked:
    """Yield the values of some spans after each other, valid until the next ones.

    With them come the number of the first value of each span and of the one after the last, and what is added to the
    number of a value to get its place.
    """
    chunks = spans[:, 2]
    gone = chunks[table.offsets[chunks] == MISSING]
    if len(gone):
        raise table.lost(int(gone[0]))
    files = chunks // table.per_file if table.per_file else np.zeros(len(spans), dtype=np.int64)
    low, high = _held(table, spans)
    groups = np.cumsum(high - low) * table.dtype.itemsize // _MOST_UNPACKED
    cuts = np.flatnonzero((np.diff(files) != 0) | (np.diff(groups) != 0)) + 1
    for first, last in pairwise([0, *cuts.tolist(), len(spans)]):
        part, sizes = slice(first, last), high[first:last] - low[first:last]
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        out = scratch("unpacked", int(bounds[-1]) * table.dtype.itemsize)
        _unpack_spans(open_bytes, table, spans[part], low[part], bounds, out)
        values = out.view(table.dtype)[: int(bounds[-1]) - max(0, int(high[last - 1]) - table.size)]
        yield values, np.append(low[part], spans[last - 1, 1]), bounds[:-1] - low[part]


def _unpack_spans(
    open_bytes: OpenBytes, table: ChunkTable, spans: np.ndarray, low: np.ndarray, bounds: np.ndarray, out: np.ndarray
) -> None:
    """Write the values of spans of one file, from ``low`` on, into an array of bytes."""
    width, chunks = table.dtype.itemsize, spans[:, 2]
    number, chunk = 0, int(chunks[0])
    places, content, firsts = bounds * width, table.chunk * width, (low - chunks * table.chunk) * width
    try:
        with open_bytes(table.key_of(chunk)) as file:
            ranges = _bytes_of(spans, table, file)
            fitting = {"firsts": firsts, "content": content, "places": places, "out": out}
            if read_and_unpack(file.descriptor, table.codecs, table.codec[chunks], *ranges, **fitting):
                return
            with closing(_ranges(file, *ranges, table.label)) as each:
                for number, chunk in enumerate(chunks.tolist()):
                    here = out[places[number] : places[number + 1]]
                    codec = table.codecs[table.codec[chunk]]
                    packed = next(each)
                    if not codec:
                        here[:] = np.frombuffer(packed, dtype=np.uint8)
                        continue
                    try:
                        unpack(packed, codec, here, width=width, first=int(firsts[number]), size=content)
                    except PackingError as error:
                        what = f"{error}. The file is damaged; copy it again from where it came."
                        raise table.unreadable(chunk, what) from error
    except FileNotFoundError as error:
        raise table.lost(chunk) from error
    except UnreadableError:
        raise
    except OSError as error:
        first, stop = spans[number, :2].tolist()
        reason = error.strerror or error
        msg = f"{table.label} cannot be read: {reason}. Check the disk and that the file is still there."
        raise UnreadableError(msg, first, stop - 1) from error
    except DataError as error:
        first, stop = spans[number, :2].tolist()
        raise UnreadableError(str(error), first, stop - 1) from error


def _ranges(file: ByteReader, starts: np.ndarray, sizes: np.ndarray, label: str) -> Generator[Any, None, None]:
    yield from file.ranges(starts, sizes, label=label)


def _held(table: ChunkTable, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first value that is unpacked for each span, and the one after the last."""
    first, stop, chunk = spans.T
    in_part = np.array([unpacks_parts(codec) for codec in table.codecs])[table.codec[chunk]]
    begin = chunk * table.chunk
    return np.where(in_part, first, begin), np.where(in_part, stop, begin + table.chunk)


def _is_raw(table: ChunkTable, chunks: np.ndarray) -> np.ndarray:
    return np.array([not codec for codec in table.codecs])[table.codec[chunks]]


def _spans(table: ChunkTable, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the ranges of values to read one after another, with the chunk of each, shape (n, 3)."""
    if len(table.offsets) > 1 or table.codecs[table.codec[0]]:
        return _chunk_spans(table, starts, ends)
    is_new = np.ones(len(starts), dtype=bool)
    is_new[1:] = starts[1:] != ends[:-1]
    most = _MOST_AT_ONCE // table.dtype.itemsize
    spans = []
    for start, end in zip(starts[is_new].tolist(), ends[np.append(is_new[1:], True)].tolist(), strict=True):
        spans += [(at, min(at + most, end), 0) for at in range(start, end, most)]
    return np.array(spans, dtype=np.int64)


def _chunk_spans(table: ChunkTable, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return for each chunk that runs touch the values from the first to the last that is needed."""
    first, last = starts // table.chunk, (ends - 1) // table.chunk
    marks = np.zeros(int(last[-1]) + 2 - int(first[0]), dtype=np.int64)
    np.add.at(marks, first - first[0], 1)
    np.add.at(marks, last + 1 - first[0], -1)
    chunks = np.flatnonzero(np.cumsum(marks)) + int(first[0])
    begin, end = chunks * table.chunk, np.minimum((chunks + 1) * table.chunk, table.size)
    low = np.maximum(starts[np.searchsorted(ends, begin, side="right")], begin)
    high = np.minimum(ends[np.searchsorted(starts, end) - 1], end)
    return np.stack([low, high, chunks], axis=1)


def _bytes_of(spans: np.ndarray, table: ChunkTable, file: ByteReader) -> tuple[np.ndarray, np.ndarray]:
    """Return the first byte and the number of bytes of each span."""
    first, stop, chunk = spans.T
    width = table.dtype.itemsize
    is_raw = _is_raw(table, chunk)
    sizes = table.sizes[chunk]
    if not is_raw.all() and (sizes == WHOLE_FILE).any():
        sizes = np.where(sizes == WHOLE_FILE, file.size, sizes)
    skipped = np.where(is_raw, (first - chunk * table.chunk) * width, 0)
    return table.offsets[chunk] + skipped, np.where(is_raw, (stop - first) * width, sizes)
