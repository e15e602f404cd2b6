"""How the chunks of .h5ad files and zarr stores are packed, and what they hold."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from scmodelforge.data.sources._libraries import inflate, unblosc, unblosc_part

deflate: Any = None
with suppress(ImportError):  # some three times as fast as zlib
    import deflate

__all__ = ["Codec", "PackingError", "unpack", "unpacks_parts"]

#: What to undo, first to last: ``zlib``, ``gzip``, ``zstd``, ``blosc`` or ``shuffle``. Nothing: bytes as they are.
Codec = tuple[str, ...]

_BLOSC_HEADER = struct.Struct("<BBBBIII")
#: What the libraries raise for bytes that they do not understand.
_ERRORS: tuple[type[Exception], ...] = (ValueError, RuntimeError, zlib.error, struct.error, MemoryError)
if deflate is not None:
    _ERRORS = (*_ERRORS, deflate.DeflateError)


class PackingError(Exception):
    """A chunk that cannot be unpacked; the message is the part of a sentence behind ``the chunk``."""


def unpacks_parts(codec: Codec) -> bool:
    """Tell whether a part of a chunk takes less time than all of it."""
    return codec in ((), ("blosc",))


def unpack(packed: Any, codec: Codec, out: np.ndarray, *, width: int, first: int = 0, size: int | None = None) -> None:
    """Write what a chunk holds, or a part of it, into an array.

    Parameters
    ----------
    packed
        The chunk as it is stored: bytes, or another contiguous buffer.
    codec
        How it is packed.
    out
        Gets the bytes, shape (n,), uint8.
    width
        Bytes of a value.
    first
        Byte of the chunk's content that ``out`` begins with.
    size
        Bytes that the chunk must hold; ``None`` for those of ``out``.

    Raises
    ------
    PackingError
        If the chunk is damaged.
    """
    size = len(out) if size is None else size
    try:
        if len(codec) == 1 and _unpack_directly(packed, codec[0], out, first, size):
            return
        raw: Any = packed
        for step in codec:
            raw = _STEPS[step](raw, size, width)
    except _ERRORS as error:
        reason = str(error) or type(error).__name__
        msg = f"cannot be unpacked ({reason})"
        raise PackingError(msg) from error
    if len(raw) != size:
        msg = f"holds {len(raw):,} bytes and not {size:,}"
        raise PackingError(msg)
    out[:] = np.frombuffer(raw, dtype=np.uint8)[first : first + len(out)]


def _unpack_directly(packed: Any, step: str, out: np.ndarray, first: int, size: int) -> bool:
    """Unpack without memory in between; say whether that was possible, and the chunk sound as far as this tells."""
    if step == "blosc":
        *_, item, held, _, stored = _BLOSC_HEADER.unpack_from(packed)
        if held != size or stored != len(packed):
            needed = f"{len(packed):,} that hold {size:,}"
            msg = f"its header says {stored:,} bytes that hold {held:,}; {needed} are needed"
            raise ValueError(msg)
        chunk = np.frombuffer(packed, np.uint8).ctypes.data
        if len(out) == size:
            return bool(unblosc(chunk, out.ctypes.data, size))
        if not item or first % item or len(out) % item:
            return False
        return bool(unblosc_part(chunk, first // item, len(out) // item, out.ctypes.data, len(out)))
    if step in ("zlib", "gzip") and deflate is not None and len(out) == size:
        source = np.frombuffer(packed, dtype=np.uint8)
        return bool(inflate(step, source.ctypes.data, len(source), out.ctypes.data, len(out)))
    return False


def _zlib(packed: Any, size: int, width: int) -> Any:
    return zlib.decompress(packed, bufsize=size) if deflate is None else deflate.zlib_decompress(packed, size)


def _gzip(packed: Any, size: int, width: int) -> Any:
    if deflate is None:
        return zlib.decompress(packed, wbits=31, bufsize=size)
    return deflate.gzip_decompress(packed, size)


def _zstd(packed: Any, size: int, width: int) -> Any:
    from numcodecs import zstd

    return zstd.decompress(packed)


def _blosc(packed: Any, size: int, width: int) -> Any:
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
