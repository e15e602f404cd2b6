"""Files of HDF5: opened by h5py, and where the chunks of a data set lie if they are packed as usual."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.sources._bytes import ByteReader, Descriptors
from scmodelforge.data.sources._chunks import ChunkTable, is_usual_type
from scmodelforge.data.sources._digest import content_digest

__all__ = ["CHUNK_CACHE", "H5adFile", "OpenH5ad", "hdf5_table"]

#: Decompressed chunks kept of each data set, in bytes; ranges that follow each other share one.
CHUNK_CACHE = 1 << 20
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DEFLATE, _SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
_CODECS = ((), ("zlib",), ("shuffle",), ("zlib", "shuffle"))


class H5adFile:
    """An .h5ad file of this machine.

    Parameters
    ----------
    path
        The file.
    name
        What messages call it.
    descriptors
        What opens it for reads by position.
    """

    errors = (OSError, RuntimeError, KeyError)
    is_remote = False

    def __init__(self, path: Path, name: str, descriptors: Descriptors) -> None:
        self.name = name
        self._path = path
        self._descriptors = descriptors

    def open(self) -> OpenH5ad:
        """Open it with h5py."""
        try:
            return OpenH5ad(h5py.File(self._path, "r", locking="best-effort", rdcc_nbytes=CHUNK_CACHE))
        except OSError as error:
            raise DataError(_explain(self._path, self.name, error)) from error

    @contextmanager
    def reader(self, key: str) -> Iterator[ByteReader]:
        """Open it for reads by position; all chunks are in one file."""
        with ExitStack() as stack:
            try:
                file = stack.enter_context(self._descriptors.reader(self._path))
            except OSError as error:
                msg = f"{self.name} cannot be read: {error.strerror}. Check that {self._path} is there."
                raise DataError(msg) from error
            yield file

    def digest(self) -> dict[str, Any]:
        """Return its size in bytes, a sha256 and what that is of."""
        return content_digest(self._path)

    def close(self) -> None:
        """Close the files that this process has open for reads by position."""
        self._descriptors.close()


class OpenH5ad:
    """An open .h5ad file. Its data sets stay open along with it, and with them their last decompressed chunks."""

    form = "an HDF5 file"

    def __init__(self, h5: h5py.File) -> None:
        self.root = h5
        weakref.finalize(self, h5.close)  # HDF5 must not read through Python once the interpreter ends
        self._datasets: dict[str, h5py.Dataset] = {}

    def __getitem__(self, where: str) -> h5py.Dataset:
        if where not in self._datasets:
            self._datasets[where] = self.root[where]
        return self._datasets[where]

    def table(self, where: str, label: str) -> ChunkTable | None:
        return hdf5_table(self[where], label)

    def close(self) -> None:
        self._datasets.clear()
        self.root.close()


def _explain(path: Path, name: str, error: OSError) -> str:
    """Return the message for a file that HDF5 does not open."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as unreadable:
        return f"{name} cannot be read: {unreadable.strerror}. Check that {path} is there and that you may read it."
    if not head:
        return f"{name} is empty (0 bytes); an .h5ad file is needed."
    if head.startswith(b"\x1f\x8b"):
        return f"{name} is a gzip archive; unpack it with gunzip and name the .h5ad file inside."
    if head.startswith(b"PK\x03\x04"):
        return f"{name} is a zip archive; unpack it with unzip and name the zarr store inside."
    if head != _SIGNATURE:
        return f"{name} is not an .h5ad file (it does not begin as HDF5 files do); a file that anndata wrote is needed."
    if isinstance(error, BlockingIOError):
        return f"{name} is being written by another program; wait until that is done."
    size = path.stat().st_size
    whole = re.search(r"stored_eof = (\d+)", str(error))
    if whole and size < int(whole[1]):
        return f"{name} is cut off: {size:,} of {int(whole[1]):,} bytes are there; copy or download it again."
    return f"{name} is a damaged HDF5 file ({error}); copy or download it again."


def hdf5_table(dataset: h5py.Dataset, label: str) -> ChunkTable | None:
    """Return where the chunks of a data set lie, or ``None`` if only HDF5 should read it.

    Chunks that are not packed at all or by deflate (gzip), perhaps with the bytes shuffled before, need no HDF5.

    Parameters
    ----------
    dataset
        The data set, open.
    label
        What messages call it.
    """
    plist = dataset.id.get_create_plist()
    is_plain = dataset.ndim == 1 and is_usual_type(dataset.dtype)
    if not is_plain or not dataset.size or plist.get_external_count() or not hasattr(os, "pread"):
        return None
    if plist.get_layout() == h5py.h5d.CONTIGUOUS:
        offset = dataset.id.get_offset()
        if offset is None:
            return None
        size = dataset.size * dataset.dtype.itemsize
        places = np.array([offset]), np.array([size])
        return ChunkTable(label, dataset.dtype, dataset.size, dataset.size, *places, _CODECS, np.zeros(1, np.uint8))
    filters = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
    if plist.get_layout() != h5py.h5d.CHUNKED or filters not in ([], [_DEFLATE], [_SHUFFLE, _DEFLATE]):
        return None
    if not hasattr(dataset.id, "chunk_iter"):  # HDF5 before 1.12.3
        return None
    return _chunked(dataset, label, filters)


def _chunked(dataset: h5py.Dataset, label: str, filters: list[int]) -> ChunkTable | None:
    chunk = int(dataset.chunks[0])
    found = np.full((3, -(-dataset.size // chunk)), -1, dtype=np.int64)

    def take(info: Any) -> None:
        found[:, info.chunk_offset[0] // chunk] = info.byte_offset, info.size, info.filter_mask

    dataset.id.chunk_iter(take)
    offsets, sizes, masks = found
    if (found < 0).any():  # chunks that were never written hold the fill value
        return None
    codec = np.zeros(len(masks), dtype=np.uint8)
    for bit, code in enumerate((_DEFLATE, _SHUFFLE)):
        if code in filters:  # a chunk may have skipped a filter
            codec |= ((~masks >> filters.index(code)) & 1).astype(np.uint8) << np.uint8(bit)
    return ChunkTable(label, dataset.dtype, dataset.size, chunk, offsets, sizes, _CODECS, codec)
