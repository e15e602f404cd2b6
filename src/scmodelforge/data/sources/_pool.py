"""Open .h5ad files: a few at a time, each process its own, one thread at a time."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from scmodelforge._errors import DataError
from scmodelforge.data.sources._bytes import ByteReader, LocalBytes

__all__ = ["FilePool", "OpenFile"]

#: Open at a time; more would meet the system's limit on open files.
_MOST_OPEN = 64
#: Decompressed chunks kept of each data set, in bytes; ranges that follow each other share one.
_CHUNK_CACHE = 1 << 20
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class OpenFile:
    """An open file. Its data sets stay open along with it, and with them their last decompressed chunks."""

    def __init__(self, h5: h5py.File) -> None:
        self.h5 = h5
        self._datasets: dict[str, h5py.Dataset] = {}

    def __getitem__(self, where: str) -> h5py.Dataset:
        if where not in self._datasets:
            self._datasets[where] = self.h5[where]
        return self._datasets[where]

    def close(self) -> None:
        """Close the file and its data sets."""
        self._datasets.clear()
        self.h5.close()


class FilePool:
    """Files that are opened when needed. A copy by pickle or fork opens them anew.

    Parameters
    ----------
    paths
        The files.
    names
        What messages call them.
    """

    def __init__(self, paths: Sequence[Path], names: Sequence[str]) -> None:
        self._paths = list(paths)
        self._names = list(names)
        self._processes: dict[int, _Process] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_paths": self._paths, "_names": self._names, "_processes": {}}

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
        with process.lock:
            try:
                yield process.get(file, self._paths[file], self._names[file])
            except (OSError, RuntimeError, KeyError) as error:  # what h5py raises when a file is damaged
                reason = error.args[-1] if error.args else error
                msg = (
                    f"{self._names[file]} cannot be read: {reason}. The file is damaged or not as anndata writes it; "
                    "copy it again from where it came, or write it again with anndata."
                )
                raise DataError(msg) from error

    @contextmanager
    def reader(self, file: int) -> Iterator[ByteReader]:
        """Give a file to any number of threads, open for reads by position.

        Raises
        ------
        DataError
            If it cannot be opened.
        """
        process = self._processes.setdefault(os.getpid(), _Process())
        try:
            taken = process.take_descriptor(file, self._paths[file])
        except OSError as error:
            msg = f"{self._names[file]} cannot be read: {error.strerror}. Check that {self._paths[file]} is there."
            raise DataError(msg) from error
        try:
            yield LocalBytes(taken)
        finally:
            process.give_back_descriptor(file)

    def close(self) -> None:
        """Close the files that this process has open. They are opened again when needed."""
        process = self._processes.pop(os.getpid(), None)
        if process is not None:
            with process.lock:
                process.close()


class _Process:
    """The open files of one process, the one used last at the end."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._files: OrderedDict[int, OpenFile] = OrderedDict()
        self._descriptors: OrderedDict[int, int] = OrderedDict()
        self._users: Counter[int] = Counter()
        self._descriptors_lock = threading.Lock()

    def get(self, file: int, path: Path, name: str) -> OpenFile:
        if file not in self._files:
            if len(self._files) >= _MOST_OPEN:
                self._files.popitem(last=False)[1].close()
            self._files[file] = OpenFile(_open(path, name))
        self._files.move_to_end(file)
        return self._files[file]

    def take_descriptor(self, file: int, path: Path) -> int:
        with self._descriptors_lock:
            if file not in self._descriptors:
                idle = [other for other in self._descriptors if not self._users[other]]
                if len(self._descriptors) >= _MOST_OPEN and idle:
                    os.close(self._descriptors.pop(idle[0]))
                self._descriptors[file] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._descriptors.move_to_end(file)
            self._users[file] += 1
            return self._descriptors[file]

    def give_back_descriptor(self, file: int) -> None:
        with self._descriptors_lock:
            self._users[file] -= 1

    def close(self) -> None:
        for opened in self._files.values():
            opened.close()
        self._files.clear()
        with self._descriptors_lock:
            for file, descriptor in list(self._descriptors.items()):
                if not self._users[file]:
                    os.close(descriptor)
                    del self._descriptors[file]


def _open(path: Path, name: str) -> h5py.File:
    try:
        return h5py.File(path, "r", locking="best-effort", rdcc_nbytes=_CHUNK_CACHE)
    except OSError as error:
        raise DataError(_explain(path, name, error)) from error


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
    if head != _HDF5_SIGNATURE:
        return f"{name} is not an .h5ad file (it does not begin as HDF5 files do); a file that anndata wrote is needed."
    if isinstance(error, BlockingIOError):
        return f"{name} is being written by another program; wait until that is done."
    size = path.stat().st_size
    whole = re.search(r"stored_eof = (\d+)", str(error))
    if whole and size < int(whole[1]):
        return f"{name} is cut off: {size:,} of {int(whole[1]):,} bytes are there; copy or download it again."
    return f"{name} is a damaged HDF5 file ({error}); copy or download it again."
