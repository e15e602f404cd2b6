"""A remote folder as zarr-python reads it: with the retries, versions, cache and errors of all other reading.

zarr-python has a store of its own for buckets, but its errors quote whole addresses, with the signatures of presigned
ones, and a body that breaks off is not asked for again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

from scmodelforge.data.sources._folder import Folder

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["FolderStore"]


class FolderStore(Store):
    """A store of zarr-python that reads the files of a folder.

    Parameters
    ----------
    folder
        The folder.
    name
        What messages call it.
    entries
        Gives the names of what is directly in a folder within; called only where the folder lists its files.
    """

    supports_writes = False
    supports_deletes = False

    def __init__(self, folder: Folder, name: str, entries: Callable[[str], list[str]]) -> None:
        super().__init__(read_only=True)
        self._folder, self._name, self._entries = folder, name, entries

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FolderStore) and self._folder is other._folder

    @property
    def supports_listing(self) -> bool:
        """Whether the folder can be asked which files it has."""
        return self._folder.lists_files

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return a file, or a part of it; ``None`` if it is not there."""
        content = await asyncio.to_thread(self._read, key, byte_range)
        return None if content is None else prototype.buffer.from_bytes(content)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return several parts of files."""
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Tell whether there is a file."""
        return await asyncio.to_thread(self._read, key, RangeByteRequest(0, 0)) is not None

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names of what is directly in a folder within."""
        for name in await asyncio.to_thread(self._entries, prefix.strip("/")):
            yield name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Refuse: nothing here asks for all files, which may be millions."""
        raise NotImplementedError
        yield prefix

    async def list(self) -> AsyncIterator[str]:
        """Refuse, as :meth:`list_prefix` does."""
        raise NotImplementedError
        yield ""

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse: the store is read only."""
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        """Refuse: the store is read only."""
        raise NotImplementedError

    def _read(self, key: str, part: ByteRequest | None) -> bytes | None:
        try:
            with self._folder.reader(key) as file:
                start, stop = _span(part, file.size)
                if start >= stop:
                    return b""
                label = f"{self._name}: {key}"
                return bytes(next(file.ranges(np.array([start]), np.array([stop - start]), label=label)))
        except FileNotFoundError:
            return None


def _span(part: Any, size: int) -> tuple[int, int]:
    """Return first byte and end of a part of a file, as far as the file goes."""
    if isinstance(part, RangeByteRequest):
        return part.start, min(part.end, size)
    if isinstance(part, OffsetByteRequest):
        return part.offset, size
    if isinstance(part, SuffixByteRequest):
        return max(0, size - part.suffix), size
    return 0, size
