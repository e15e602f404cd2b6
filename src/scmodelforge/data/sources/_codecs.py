"""How the chunks of .h5ad files and zarr stores are packed, and what they hold."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np

deflate: Any = None
with suppress(ImportError):  # some three times as fast as zlib
    import deflate

__all__ = ["Codec", "PackingError", "unpack"]

#: What to undo, first to last: ``zlib``, ``gzip``, ``zstd``, ``blosc`` or ``shuffle``. Nothing: bytes as they are.
Codec = tuple[str, ...]

_BLOSC_HEADER = struct.Struct("<BBBBIII")
_IS_COPY, _IS_NOT_SPLIT = 0x2, 0x10
#: What the libraries raise for bytes that they do not understand.
_ERRORS: tuple[type[Exception], ...] = (ValueError, RuntimeError, zlib.error, struct.error, MemoryError)
if deflate is not None:
    _ERRORS = (*_ERRORS, deflate.DeflateError)


class PackingError(Exception):
    """A chunk that cannot be unpacked; the message is the part of a sentence behind ``the chunk``."""


def unpack(packed: bytes, codec: Codec, size: int, width: int, start: int, stop: int) -> tuple[Any, int]:
    """Return what a chunk holds, or the part of it with some bytes where that is less work, and its first byte.

    Parameters
    ----------
    packed
        The chunk as it is stored.
    codec
        How it is packed.
    size
        Bytes it holds.
    width
        Bytes of a value.
    start, stop
        The bytes that are needed.

    Raises
    ------
    PackingError
        If the chunk is damaged.
    """
    first, whole = 0, size
    try:
        if codec == ("blosc",):
            packed, first, whole = _blosc_part(packed, size, start, stop)
        raw: Any = packed
        for step in codec:
            raw = _STEPS[step](raw, size, width)
    except _ERRORS as error:
        reason = str(error) or type(error).__name__
        msg = f"cannot be unpacked ({reason})"
        raise PackingError(msg) from error
    if len(raw) != whole:
        msg = f"holds {first + len(raw):,} bytes and not {first + whole:,}"
        raise PackingError(msg)
    return raw, first


def _zlib(packed: bytes, size: int, width: int) -> Any:
    return zlib.decompress(packed, bufsize=size) if deflate is None else deflate.zlib_decompress(packed, size)


def _gzip(packed: bytes, size: int, width: int) -> Any:
    if deflate is None:
        return zlib.decompress(packed, wbits=31, bufsize=size)
    return deflate.gzip_decompress(packed, size)


def _zstd(packed: bytes, size: int, width: int) -> Any:
    from numcodecs import zstd

    return zstd.decompress(packed)


def _blosc(packed: bytes, size: int, width: int) -> Any:
    # Blosc's own threads are off: zarr turns them off in numcodecs when it is imported, as it is wherever a store is.
    from numcodecs import blosc

    return blosc.decompress(packed)


def _unshuffle(raw: Any, size: int, width: int) -> Any:
    if width == 1:
        return raw
    return np.ascontiguousarray(np.frombuffer(raw, dtype=np.uint8).reshape(width, -1).T).ravel()


_STEPS: dict[str, Callable[[Any, int, int], Any]] = {
    "zlib": _zlib,
    "gzip": _gzip,
    "zstd": _zstd,
    "blosc": _blosc,
    "shuffle": _unshuffle,
}


def _blosc_part(packed: bytes, size: int, start: int, stop: int) -> tuple[bytes, int, int]:
    """Return Blosc bytes with just the blocks that hold some bytes, the first byte they hold, and how many.

    A Blosc chunk is made of blocks that are packed on their own: a header of 16 bytes, the place of each block, the
    blocks (README_CHUNK_FORMAT of c-blosc). The last block may be smaller, and is then never split by bytes of a value.
    """
    version, format_version, flags, width, held, block, stored = _BLOSC_HEADER.unpack_from(packed)
    if held != size or stored != len(packed):
        msg = f"its header says {stored:,} bytes that hold {held:,}; {len(packed):,} that hold {size:,} are needed"
        raise ValueError(msg)
    count = -(-held // block) if block else 0
    first, last = (start // block, -(-stop // block)) if block else (0, 0)
    begin = first * block
    if flags & _IS_COPY or last - first >= count:
        return packed, 0, held
    places = struct.unpack_from(f"<{count}i", packed, _BLOSC_HEADER.size)
    bounds = (*places, stored)
    if bounds[0] < 0 or any(one >= next_one for one, next_one in pairwise(bounds)):
        return packed, 0, held  # threads may have written blocks in another order
    kept = min(last * block, held) - first * block
    if kept < block:  # the smaller block alone
        block, flags = kept, flags | _IS_NOT_SPLIT
    head = _BLOSC_HEADER.size + 4 * (last - first)
    shift, content = head - bounds[first], memoryview(packed)[bounds[first] : bounds[last]]
    header = _BLOSC_HEADER.pack(version, format_version, flags, width, kept, block, head + len(content))
    moved = struct.pack(f"<{last - first}i", *(place + shift for place in places[first:last]))
    return b"".join((header, moved, content)), begin, kept
