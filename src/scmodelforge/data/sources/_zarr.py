"""AnnData in zarr stores: what zarr-python opens, in h5py's ways, with lost chunks found out.

By zarr's rules a chunk that is not there holds the fill value, so a store that was copied in part reads as zeros. For
the parts of a matrix and for texts that is an error here. Chunks of numeric obs columns, and of dense matrices whose
chunks hold some columns only, may be absent rightly: they are zeros then.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.sources._bytes import ByteReader
from scmodelforge.data.sources._chunks import MISSING, WHOLE_FILE, ChunkTable, OpenBytes, UnreadableError
from scmodelforge.data.sources._folder import Folder
from scmodelforge.data.sources._shards import zarr_table

__all__ = ["ZarrFile"]

_PARTS_OF_CSR = ("data", "indices", "indptr")


class ZarrFile:
    """An AnnData zarr store, or one of several in a store.

    Parameters
    ----------
    folder
        The store.
    name
        What messages call it.
    member
        Place of the AnnData in the store; empty if it is the store itself.
    """

    #: What zarr-python and its codecs raise.
    errors = (OSError, RuntimeError, KeyError, ValueError, TypeError, EOFError, zlib.error)

    def __init__(self, folder: Folder, name: str, member: str = "") -> None:
        self.name = name
        self.is_remote = folder.is_remote
        self._folder = folder
        self._member = member

    def open(self) -> _OpenZarr:
        """Open it with zarr-python."""
        import zarr

        root = zarr.open_group(self._folder.zarr_store(), mode="r")
        if not self._folder.lists_files and root.metadata.consolidated_metadata is None:
            msg = (
                f"{self.name} lies on a server that does not list its files, and the store has no consolidated "
                "metadata; make them with zarr.consolidate_metadata before uploading it, or read it from a bucket."
            )
            raise DataError(msg)
        return _OpenZarr(root[self._member] if self._member else root, self._folder.reader, self.name)

    def reader(self, key: str) -> AbstractContextManager[ByteReader]:
        """Open a file of the store for reads by position."""
        return self._folder.reader(key)

    def digest(self) -> dict[str, Any]:
        """Return its size in bytes, a sha256 and what that is of."""
        return self._folder.digest()

    def close(self) -> None:
        """Close what this process has open of the store."""
        self._folder.close()


class _OpenZarr:
    form = "a zarr store"

    def __init__(self, root: Any, open_bytes: OpenBytes, name: str) -> None:
        self.root = _Group(root, open_bytes, name)
        self._arrays: dict[str, Any] = {}

    def __getitem__(self, where: str) -> Any:
        if where not in self._arrays:  # along with it the places of its chunks are kept
            self._arrays[where] = self.root[where]
        return self._arrays[where]

    def table(self, where: str, label: str) -> ChunkTable | None:
        """Return where the values of an array lie, or ``None`` if only zarr-python should read it."""
        table, is_usual = self[where].located(label)
        return table if is_usual else None

    def close(self) -> None:
        self._arrays.clear()


class _Group:
    """A group of a store, whose arrays are checked for lost chunks."""

    def __init__(self, group: Any, open_bytes: OpenBytes, name: str) -> None:
        self._group = group
        self._open_bytes = open_bytes
        self._name = name
        self.attrs = group.attrs

    def __getitem__(self, where: str) -> _Group | _Array:
        item = self._group[where]
        if hasattr(item, "shape"):
            return _Array(item, self._open_bytes, f"{self._name}: {item.path}")
        return _Group(item, self._open_bytes, self._name)

    def __contains__(self, where: str) -> bool:
        return where in self._group

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._group))  # a store has them in no particular order

    def get(self, where: str, default: Any = None) -> Any:
        try:
            return self[where]
        except KeyError:
            return default


class _Array:
    """An array of a store, read by rows."""

    def __init__(self, array: Any, open_bytes: OpenBytes, label: str) -> None:
        self._array = array
        self._open_bytes = open_bytes
        self._label = label
        self._located: tuple[ChunkTable, bool] | None = None
        self._seen: set[int] = set()
        self.attrs = array.attrs
        self.shape = tuple(array.shape)
        self.dtype = array.dtype

    @property
    def is_text(self) -> bool:
        return self.dtype.kind in "TOUS"

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(len(self))
        name = self._array.path.rpartition("/")[2]
        if start < stop and (self.is_text or len(self.shape) == 2 or name in _PARTS_OF_CSR):
            self._check(start, stop, may_be_absent=name == "indptr" or len(self.shape) == 2)
        try:
            return np.asarray(self._array[start:stop])
        except DataError as error:  # of the server, not of the store
            raise UnreadableError(str(error), start, stop - 1) from error
        except ZarrFile.errors as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            msg = (
                f"{self._label}: values {start:,} to {stop - 1:,} cannot be read ({reason}). "
                "The store is damaged; copy it again from where it came."
            )
            raise UnreadableError(msg, start, stop - 1) from error

    def located(self, label: str) -> tuple[ChunkTable, bool]:
        """Return where its chunks lie, and whether they can be unpacked without zarr-python."""
        found = self._locate(label)
        if found is None:
            msg = (
                f"{label} is stored in chunks that cannot be told to be there or lost (another chunk grid or shard "
                "index than usual); write the store again with anndata."
            )
            raise DataError(msg)
        return found

    def _locate(self, label: str) -> tuple[ChunkTable, bool] | None:
        if self._located is None:
            metadata = self._array.metadata.to_dict()
            self._located = zarr_table(metadata, self._array.path, self.dtype, self._open_bytes, label)
        return self._located

    def _check(self, start: int, stop: int, *, may_be_absent: bool) -> None:
        """Refuse rows in chunks that are not there; an array without a single one may be all zeros."""
        found = self._locate(self._label) if len(self.shape) == 2 else self.located(self._label)
        if found is None:
            return
        table = found[0]
        for chunk in range(start // table.chunk, -(-stop // table.chunk)):
            if self._is_there(table, chunk):
                continue
            if may_be_absent and not any(self._is_there(table, other) for other in range(len(table.offsets))):
                return
            raise table.lost(chunk)

    def _is_there(self, table: ChunkTable, chunk: int) -> bool:
        if chunk not in self._seen:
            if table.offsets[chunk] == MISSING:
                return False
            if table.sizes[chunk] == WHOLE_FILE:
                try:
                    with self._open_bytes(table.key_of(chunk)):
                        pass
                except FileNotFoundError:
                    return False
            self._seen.add(chunk)
        return True
