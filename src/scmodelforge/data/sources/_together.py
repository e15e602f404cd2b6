"""Chunks of a file of this machine, read and unpacked by one compiled loop.

Between two calls from Python a thread must have the interpreter's lock, for which it waits while another one computes
in Python: with thousands of chunks a second the threads of a loader wait for a quarter of the time. The loop calls the
functions of the system and of the C libraries by their addresses, and needs the lock once for many chunks. It does the
usual only; it says of anything else, such as a file that ends early, that it could not.
"""

from __future__ import annotations

import numpy as np

from scmodelforge.data._compile import calls_address, compiled, inner
from scmodelforge.data.sources import _libraries
from scmodelforge.data.sources._bytes import scratch
from scmodelforge.data.sources._codecs import Codec

__all__ = ["read_and_unpack"]

_AS_IT_IS, _BLOSC, _ZLIB, _GZIP = range(4)
_KINDS: dict[Codec, int] = {(): _AS_IT_IS, ("blosc",): _BLOSC, ("zlib",): _ZLIB, ("gzip",): _GZIP}
#: Bytes that are read at a time, about, of chunks that follow each other; and the most of a single one.
_READ_AT_ONCE, _MOST_OF_A_CHUNK = 1 << 20, 32 << 20
#: Bytes of a Blosc chunk's header, in which the size of its items, of its content and of itself stand.
_HEADER, _ITEM, _CONTENT, _PACKED = 16, 3, 4, 12


def read_and_unpack(
    descriptor: int | None,
    codecs: tuple[Codec, ...],
    codec: np.ndarray,
    starts: np.ndarray,
    sizes: np.ndarray,
    *,
    firsts: np.ndarray,
    content: int,
    places: np.ndarray,
    out: np.ndarray,
) -> bool:
    """Write chunks, or parts of them, into an array; say whether that was possible. If not, nothing is known of it.

    Parameters
    ----------
    descriptor
        The file, ``None`` if it is not one of this machine.
    codecs, codec
        Ways of packing, and which of them each chunk has, shape (n,).
    starts, sizes
        First byte in the file and packed bytes of each, shape (n,), int64.
    firsts
        Byte of its content that each begins with, shape (n,), int64.
    content
        Bytes of the content of a whole chunk, if it is packed.
    places
        First byte in ``out`` of each, and the end of the last one, shape (n + 1,), int64.
    out
        Gets the bytes, shape (m,), uint8.
    """
    kinds = np.array([_KINDS.get(each, -1) for each in codecs], dtype=np.int64)[codec]
    kernel = None if descriptor is None else _read_and_unpack(len(out))
    largest = int(sizes[kinds != _AS_IT_IS].max(initial=0))
    if kernel is None or kinds.min() < 0 or sizes.min() < 0 or largest > _MOST_OF_A_CHUNK:
        return False
    library = np.array(_libraries.addresses(), dtype=np.int64)
    buffer = scratch("read", max(_READ_AT_ONCE, largest))
    return bool(kernel(library, descriptor, kinds, starts, sizes, firsts, content, places, buffer, out))


_int_of = calls_address(32)
_size_of = calls_address(64)


@compiled
def _read_and_unpack(library, descriptor, kinds, starts, sizes, firsts, content, places, buffer, out):
    number, target = 0, out.ctypes.data
    while number < len(starts):
        if kinds[number] == _AS_IT_IS:
            size = places[number + 1] - places[number]
            if size != sizes[number] or not _read(library, descriptor, target + places[number], size, starts[number]):
                return False
            number += 1
            continue
        last, size = number + 1, sizes[number]
        while (
            last < len(starts)
            and kinds[last] != _AS_IT_IS
            and starts[last] == starts[number] + size
            and size + sizes[last] <= len(buffer)
        ):
            size += sizes[last]
            last += 1
        if not _read(library, descriptor, buffer.ctypes.data, size, starts[number]):
            return False
        start = 0
        for chunk in range(number, last):
            packed = buffer[start : start + sizes[chunk]]
            part = out[places[chunk] : places[chunk + 1]]
            if kinds[chunk] == _BLOSC:
                is_sound = _unblosc(library, packed, firsts[chunk], content, part)
            else:
                is_sound = len(part) == content and _inflate(library, kinds[chunk], packed, part)
            if not is_sound:
                return False
            start += sizes[chunk]
        number = last
    return True


@inner
def _read(library, descriptor, target, size, start):
    """Read bytes of a file; say whether they are there."""
    read = library[0]
    found = 0
    while read != 0 and found < size:
        more = _size_of(read, descriptor, target + found, size - found, start + found, 0, 0)
        if more <= 0:
            return False
        found += more
    return found == size


@inner
def _unblosc(library, packed, first, content, out):
    """Unpack a Blosc chunk or a part of it; say whether it is sound."""
    if len(packed) < _HEADER:
        return False
    held, stored = 0, 0
    for byte in range(4):
        held += np.int64(packed[_CONTENT + byte]) << (8 * byte)
        stored += np.int64(packed[_PACKED + byte]) << (8 * byte)
    if held != content or stored != len(packed):
        return False
    if len(out) == content:
        whole = library[1]
        return whole != 0 and _int_of(whole, packed.ctypes.data, out.ctypes.data, content, 1, 0, 0) == content
    part, item = library[2], np.int64(packed[_ITEM])
    if part == 0 or item == 0 or first % item or len(out) % item:
        return False
    count = len(out) // item
    return _int_of(part, packed.ctypes.data, first // item, count, out.ctypes.data, 0, 0) == len(out)


@inner
def _inflate(library, kind, packed, out):
    """Unpack a stream of zlib or gzip; say whether it is sound."""
    function = library[3] if kind == _ZLIB else library[4]
    if function == 0 or library[5] == 0:
        return False
    return _int_of(function, library[5], packed.ctypes.data, len(packed), out.ctypes.data, len(out), 0) == 0
