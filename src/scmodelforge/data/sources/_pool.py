"""Open files and stores: a few at a time, each process its own, one thread at a time."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, TypeVar

from scmodelforge._errors import DataError
from scmodelforge.data.sources._at_once import several_at_once
from scmodelforge.data.sources._bytes import ByteReader
from scmodelforge.data.sources._chunks import ChunkTable
from scmodelforge.data.sources._collection import collection_paused

__all__ = ["FilePool", "OpenFile", "StoredFile"]

T = TypeVar("T")

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
    def use(self, file: int, *, rows: tuple[int, int] | None = None) -> Iterator[OpenFile]:
        """Give a file to one thread at a time, open.

        Parameters
        ----------
        file
            Number of the file.
        rows
            First row and end of what is read of it, for messages.

        Raises
        ------
        DataError
            If it cannot be opened, or if reading it fails.
        """
        # a lock or an HDF5 handle that came along with a fork must not be touched, so each process has an entry
        process = self._process()
        stored = self._files[file]
        with process.lock, _reading(stored, rows):
            yield process.get(file, stored)

    def first_look(self, look: Callable[[int, OpenFile], T]) -> list[T]:
        """Return what a function makes of each file and its number; of files elsewhere several are opened at a time.

        Raises
        ------
        DataError
            As :meth:`use` does, for the first file that cannot be opened or read.
        """

        def one(file: int) -> T:
            if not self._files[file].is_remote:
                with self.use(file) as opened:
                    return look(file, opened)
            with _reading(self._files[file], None):
                opened = self._files[file].open()
                try:
                    found = look(file, opened)
                except BaseException:
                    opened.close()
                    raise
            self._process().keep(file, opened)
            return found

        if any(stored.is_remote for stored in self._files):
            return several_at_once(one, range(len(self._files)))
        return [one(file) for file in range(len(self._files))]

    def close(self) -> None:
        """Close the files that this process has open. They are opened again when needed."""
        process = self._processes.pop(os.getpid(), None)
        if process is not None:
            with process.lock:
                process.close()
        for file in self._files:
            file.close()

    def _process(self) -> _Process:
        return self._processes.setdefault(os.getpid(), _Process())


@contextmanager
def _reading(stored: StoredFile, rows: tuple[int, int] | None) -> Iterator[None]:
    """Turn what a library raises into an error that names the file."""
    with collection_paused() if stored.is_remote else nullcontext():
        try:
            yield
        except DataError:
            raise
        except stored.errors as error:
            reason = " ".join(str(error.args[-1] if error.args else error).split())
            msg = (
                f"{stored.name} cannot be read: {reason}. The file is damaged or not as anndata writes it; "
                "copy it again from where it came, or write it again with anndata."
            )
            if rows is not None:
                msg += f" It concerns rows {rows[0]:,} to {rows[1] - 1:,}."
            raise DataError(msg) from error


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

    def keep(self, number: int, opened: OpenFile) -> None:
        """Take a file that was opened elsewhere, or close it if there are enough."""
        with self.lock:
            if number in self._files or len(self._files) >= _MOST_OPEN:
                opened.close()
            else:
                self._files[number] = opened

    def close(self) -> None:
        for opened in self._files.values():
            opened.close()
        self._files.clear()
