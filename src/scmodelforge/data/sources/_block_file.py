"""A remote file as h5py wants it: one that is read piece by piece, from blocks that are kept for a while."""

from __future__ import annotations

import io
import struct
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np

from scmodelforge.data.sources._remote import RemoteFile

__all__ = ["BlockFile"]

_BLOCK = 1 << 17
_KEPT = 128  # 16 MiB of a file
_MOST_AHEAD = 64  # 8 MiB
_READ_AT_ONCE = 4 << 20
#: Nodes of the tree that says where the chunks of a one-dimensional data set lie: HDF5 format, version 1 B-trees.
_NODE = struct.Struct("<4sBBH")
_NODE_HEAD, _NODE_STRIDE, _NODE_KEY, _CHUNKS = 24, 32, 24, 1


class BlockFile(io.RawIOBase):
    """A remote file that remembers the blocks read last. For one thread at a time.

    Reads that follow each other fetch ever more blocks ahead, so that a long array takes few requests. The leaves of a
    tree of chunks lie all over a file and would be read one by one: they are fetched together once the node above them
    is read.

    Parameters
    ----------
    file
        The file.
    label
        What messages call it.
    """

    def __init__(self, file: RemoteFile, label: str) -> None:
        self._file, self._label = file, label
        self._at = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._next, self._ahead = -1, 1
        if len(file.head) in (_BLOCK, file.size):
            self._blocks[0] = file.head

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Return true."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read from the position on; returns the number of bytes, fewer than asked for at the file's end only."""
        start, stop = self._at, min(self._at + len(buffer), self._file.size)
        if start >= stop:
            return 0
        if stop - start > _READ_AT_ONCE:
            return self._read_through(buffer, start, stop)
        self._load(range(start // _BLOCK, -(-stop // _BLOCK)))
        for block in range(start // _BLOCK, -(-stop // _BLOCK)):
            first, last = max(start, block * _BLOCK), min(stop, (block + 1) * _BLOCK)
            buffer[first - start : last - start] = self._blocks[block][first - block * _BLOCK : last - block * _BLOCK]
        self._at = stop
        self._load_leaves(bytes(buffer[: stop - start]))
        self._forget()
        return stop - start

    def _read_through(self, buffer: memoryview, start: int, stop: int) -> int:
        """Read so much that the blocks would not be remembered anyway."""
        starts = np.arange(start, stop, _READ_AT_ONCE)
        for part in self._file.ranges(starts, np.minimum(_READ_AT_ONCE, stop - starts), label=self._label):
            buffer[self._at - start : self._at - start + len(part)] = part
            self._at += len(part)
        return stop - start

    def _load(self, needed: range) -> None:
        missing = [block for block in needed if block not in self._blocks]
        if missing:
            self._ahead = min(2 * self._ahead, _MOST_AHEAD) if missing[0] == self._next else 1
            self._next = needed.stop + self._ahead - 1
            self._fetch([*missing, *range(needed.stop, self._next)])
        for block in needed:
            self._blocks.move_to_end(block)

    def _load_leaves(self, read: bytes) -> None:
        if len(read) < _NODE_HEAD + _NODE_STRIDE or not read.startswith(b"TREE"):
            return
        _, kind, level, entries = _NODE.unpack_from(read)
        room = len(read) - _NODE_HEAD - _NODE_KEY
        if kind != _CHUNKS or level == 0 or room % _NODE_STRIDE or room < entries * _NODE_STRIDE:
            return
        places = [_NODE_HEAD + entry * _NODE_STRIDE + _NODE_KEY for entry in range(entries)]
        leaves = [int.from_bytes(read[place : place + 8], "little") for place in places]
        self._fetch([leaf // _BLOCK for leaf in leaves if leaf < self._file.size][: _KEPT // 2])

    def _fetch(self, blocks: Iterable[int]) -> None:
        end = -(-self._file.size // _BLOCK)
        new = [block for block in dict.fromkeys(blocks) if block not in self._blocks and block < end]
        starts = np.array(new, dtype=np.int64) * _BLOCK
        sizes = np.minimum(_BLOCK, self._file.size - starts)
        self._blocks.update(zip(new, self._file.ranges(starts, sizes, label=self._label), strict=True))

    def _forget(self) -> None:
        while len(self._blocks) > _KEPT:
            self._blocks.popitem(last=False)
