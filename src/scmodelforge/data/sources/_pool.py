"""Open files and stores: a few at a time, each process its own, one thread at a time."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from scmodelforge._errors import DataError
from scmodelforge.data.sources._bytes import ByteReader
from scmodelforge.data.sources._chunks import ChunkTable
from scmodelforge.data.sources._collection import collection_paused

__all__ = ["FilePool", "OpenFile", "StoredFile"]

#: Open at a time; more would meet the system's limit on open files.
_MOST_OPEN = 64


class OpenFile(Protocol):
    """An open AnnData file or store."""

    @property
    def root(self) -> Any:
        """Its outermost group, of h5py or zarr."""
        ...

    @property
    def form(self) -> str:
        """What messages call its form: ``an HDF5 file`` or ``a zarr store``."""
        ...

    def __getitem__(self, where: str) -> Any:
        """Return an array; reading what was lost of it is an error."""
        ...

    def table(self, where: str, label: str) -> ChunkTable | None:
        """Return where the values of an array lie, or ``None`` if only its library should read it."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class StoredFile(Protocol):
    """An AnnData file or store, wherever it lies. Pickled along with a source."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What its library raises where it is damaged."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether reading waits for a server."""
        ...

    def open(self) -> OpenFile:
        """Open it for one thread at a time."""
        ...

    def reader(self, key: str) -> AbstractContextManager[ByteReader]:
        """Open the file of a chunk table for reads by position, for any number of threads."""
        ...

    def digest(self) -> dict[str, Any]:
        """Return its size in bytes, a sha256 and what that is of."""
        ...

    def close(self) -> None:
        """Close what this process has open of it."""
        ...


class FilePool:
    """Files that are opened when needed. A copy by pickle or fork opens them anew.

    Parameters
    ----------
    files
        The files.
    """

    def __init__(self, files: Sequence[StoredFile]) -> None:
        self._files = list(files)
        self._processes: dict[int, _Process] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_files": self._files, "_processes": {}}

    def __getitem__(self, file: int) -> StoredFile:
        return self._files[file]

    @contextmanager
    def use(self, file: int) -> Iterator[OpenFile]:
        """Give a file to one thread at a time, open.

        Raises
        ------
        DataError
            If it cannot be opened, or if reading it fails.
        """
        # a lock or an HDF5 handle that came along with a fork must not be touched, so each process has an entry
        process = self._processes.setdefault(os.getpid(), _Process())
        stored = self._files[file]
        with process.lock, collection_paused() if stored.is_remote else nullcontext():
            try:
                yield process.get(file, stored)
            except DataError:
                raise
            except stored.errors as error:
                reason = " ".join(str(error.args[-1] if error.args else error).split())
                msg = (
                    f"{stored.name} cannot be read: {reason}. The file is damaged or not as anndata writes it; "
                    "copy it again from where it came, or write it again with anndata."
                )
                raise DataError(msg) from error

    def close(self) -> None:
        """Close the files that this process has open. They are opened again when needed."""
        process = self._processes.pop(os.getpid(), None)
        if process is not None:
            with process.lock:
                process.close()
        for file in self._files:
            file.close()


class _Process:
    """The open files of one process, the one used last at the end."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._files: OrderedDict[int, OpenFile] = OrderedDict()

    def get(self, number: int, file: StoredFile) -> OpenFile:
        if number not in self._files:
            if len(self._files) >= _MOST_OPEN:
                self._files.popitem(last=False)[1].close()
            self._files[number] = file.open()
        self._files.move_to_end(number)
        return self._files[number]

    def close(self) -> None:
        for opened in self._files.values():
            opened.close()
        self._files.clear()
