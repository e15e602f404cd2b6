"""How the chunks of .h5ad files and zarr stores are packed, and what they hold."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from scmodelforge.data.sources._libraries import inflate, unblosc

deflate: Any = None
with suppress(ImportError):  # some three times as fast as zlib
    import deflate

__all__ = ["Codec", "PackingError", "unpack"]

#: What to undo, first to last: ``zlib``, ``gzip``, ``zstd``, ``blosc`` or ``shuffle``. Nothing: bytes as they are.
Codec = tuple[str, ...]

_BLOSC_HEADER = struct.Struct("<BBBBIII")
#: What the libraries raise for bytes that they do not understand.
_ERRORS: tuple[type[Exception], ...] = (ValueError, RuntimeError, zlib.error, struct.error, MemoryError)
if deflate is not None:
    _ERRORS = (*_ERRORS, deflate.DeflateError)


class PackingError(Exception):
    """A chunk that cannot be unpacked; the message is the part of a sentence behind ``the chunk``."""


def unpack(packed: Any, codec: Codec, out: np.ndarray, *, width: int) -> None:
    """Write what a chunk holds into an array.

    Parameters
    ----------
    packed
        The chunk as it is stored: bytes, or another contiguous buffer.
    codec
        How it is packed.
    out
        Gets the bytes, shape (n,), uint8; the chunk must hold so many.
    width
        Bytes of a value.

    Raises
    ------
    PackingError
        If the chunk is damaged.
    """
    try:
        if len(codec) == 1 and _unpack_directly(packed, codec[0], out):
            return
        raw: Any = packed
        for step in codec:
            raw = _STEPS[step](raw, len(out), width)
    except _ERRORS as error:
        reason = str(error) or type(error).__name__
        msg = f"cannot be unpacked ({reason})"
        raise PackingError(msg) from error
    if len(raw) != len(out):
        msg = f"holds {len(raw):,} bytes and not {len(out):,}"
        raise PackingError(msg)
    out[:] = np.frombuffer(raw, dtype=np.uint8)


def _unpack_directly(packed: Any, step: str, out: np.ndarray) -> bool:
    """Unpack without memory in between; say whether that was possible, and the chunk sound as far as this tells."""
    if step == "blosc":
        *_, held, _, stored = _BLOSC_HEADER.unpack_from(packed)
        if held != len(out) or stored != len(packed):
            needed = f"{len(packed):,} that hold {len(out):,}"
            msg = f"its header says {stored:,} bytes that hold {held:,}; {needed} are needed"
            raise ValueError(msg)
        return bool(unblosc(np.frombuffer(packed, np.uint8).ctypes.data, out.ctypes.data, len(out)))
    if step in ("zlib", "gzip") and deflate is not None:
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
