"""Functions of C libraries that installed packages bring along, called without a bytes object for each result.

``numcodecs`` and ``deflate`` return what they unpack in new memory, which the system must clear page by page: that
takes longer than unpacking. The libraries within, c-blosc and libdeflate, write where they are told to. They are found
by the names in their public headers; where a package hides them, it is used as it is.
"""

from __future__ import annotations

import ctypes
import threading
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any

__all__ = ["addresses", "inflate", "unblosc", "unblosc_part"]

_SIZE, _POINTER, _INT = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
_INFLATE = _INT, (_POINTER, _POINTER, _SIZE, _POINTER, _SIZE, _POINTER)
#: Module that holds each function, ``None`` for the system's, its result and its arguments.
_FUNCTIONS: dict[str, tuple[str | None, Any, tuple[Any, ...]]] = {
    "pread": (None, ctypes.c_ssize_t, (_INT, _POINTER, _SIZE, ctypes.c_int64)),
    "blosc_decompress_ctx": ("numcodecs.blosc", _INT, (_POINTER, _POINTER, _SIZE, _INT)),
    "blosc_getitem": ("numcodecs.blosc", _INT, (_POINTER, _INT, _INT, _POINTER)),
    "libdeflate_zlib_decompress": ("deflate._deflate", *_INFLATE),
    "libdeflate_gzip_decompress": ("deflate._deflate", *_INFLATE),
    "libdeflate_alloc_decompressor": ("deflate._deflate", _POINTER, ()),
    "libdeflate_free_decompressor": ("deflate._deflate", None, (_POINTER,)),
}


def unblosc(packed: int, out: int, size: int) -> bool | None:
    """Unpack a Blosc chunk of known size with c-blosc; say whether it was sound, or ``None`` without the library.

    The length in the chunk's header is trusted.

    Parameters
    ----------
    packed, out
        Addresses of the chunk, and of where its content goes.
    size
        Bytes of the content.
    """
    unpack = _function("blosc_decompress_ctx")
    return None if unpack is None else bool(unpack(packed, out, size, 1) == size)


def unblosc_part(packed: int, first: int, count: int, out: int, size: int) -> bool | None:
    """Do as :func:`unblosc` for some values of a chunk; only the blocks they lie in are unpacked.

    Parameters
    ----------
    packed, out
        Addresses of the chunk, and of where the values go.
    first, count
        The values, in items of the size that the chunk's header says.
    size
        Their bytes.
    """
    unpack = _function("blosc_getitem")
    return None if unpack is None else bool(unpack(packed, first, count, out) == size)


def inflate(form: str, packed: int, packed_size: int, out: int, size: int) -> bool | None:
    """Unpack a stream of known size with libdeflate; say whether it was sound, or ``None`` without the library.

    Parameters
    ----------
    form
        ``zlib`` or ``gzip``.
    packed, out
        Addresses of the stream, and of where its content goes.
    packed_size, size
        Bytes of both.
    """
    unpack = _function(f"libdeflate_{form}_decompress")
    if unpack is None or _of_thread.state is None:
        return None
    return bool(unpack(_of_thread.state.address, packed, packed_size, out, size, None) == 0)


def addresses() -> list[int]:
    """Return where functions are, for compiled loops that call them; 0 for those that are not there.

    They are ``pread``, those of :func:`unblosc`, :func:`unblosc_part` and :func:`inflate` for zlib and gzip, and last
    what the latter needs in this thread.
    """
    return [*_addresses(), 0 if _of_thread.state is None else _of_thread.state.address]


@cache
def _addresses() -> list[int]:
    libdeflate = "libdeflate_zlib_decompress", "libdeflate_gzip_decompress"
    found = [_function(name) for name in ("pread", "blosc_decompress_ctx", "blosc_getitem", *libdeflate)]
    return [0 if function is None else ctypes.cast(function, _POINTER).value or 0 for function in found]


@cache
def _function(name: str) -> Any:
    module, result, arguments = _FUNCTIONS[name]
    with suppress(ImportError, OSError, AttributeError, TypeError):  # the last for the system's where there is no such
        library = ctypes.CDLL(None if module is None else str(import_module(module).__file__))
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
        return function
    return None


class _Decompressor:
    """What libdeflate needs to unpack, for one thread at a time."""

    def __init__(self, allocate: Any, free: Any) -> None:
        self.address, self._free = allocate(), free

    def __del__(self) -> None:
        self._free(self.address)


class _OfThread(threading.local):
    def __init__(self) -> None:
        allocate, free = _function("libdeflate_alloc_decompressor"), _function("libdeflate_free_decompressor")
        self.state = None if allocate is None or free is None else _Decompressor(allocate, free)


_of_thread = _OfThread()
