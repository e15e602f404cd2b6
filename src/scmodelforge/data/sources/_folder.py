"""Folders of files, as zarr stores are, wherever they lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from scmodelforge._errors import DataError
from scmodelforge.data.sources._bytes import ByteReader, Descriptors
from scmodelforge.data.sources._digest import content_digest

__all__ = ["Folder", "LocalFolder"]


class Folder(Protocol):
    """A folder of files, as a zarr store is. Pickled along with a source; threads share it."""

    @property
    def is_remote(self) -> bool:
        """Whether reading waits for a server."""
        ...

    @property
    def lists_files(self) -> bool:
        """Whether it can be asked which files it has."""
        ...

    def reader(self, key: str) -> AbstractContextManager[ByteReader]:
        """Open a file by its path within the folder, such as ``X/data/c/0``, for any number of threads.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        DataError
            If it cannot be opened.
        """
        ...

    def zarr_store(self) -> Any:
        """Return what zarr-python opens: a store, or the path of one."""
        ...

    def digest(self) -> dict[str, Any]:
        """Return the size in bytes, a sha256 and what that is of, as :func:`._digest.content_digest` does."""
        ...

    def close(self) -> None:
        """Close the files that this process has open. They are opened again when needed."""
        ...


class LocalFolder:
    """A folder of this machine.

    Parameters
    ----------
    path
        The folder.
    descriptors
        What opens its files.
    """

    is_remote = False
    lists_files = True

    def __init__(self, path: Path, descriptors: Descriptors) -> None:
        self._path = path
        self._descriptors = descriptors

    @contextmanager
    def reader(self, key: str) -> Iterator[ByteReader]:
        """Open a file by its path within the folder, for any number of threads."""
        with ExitStack() as stack:
            try:
                file = stack.enter_context(self._descriptors.reader(self._path / key))
            except FileNotFoundError:
                raise
            except OSError as error:
                msg = f"{self._path / key} cannot be read: {error.strerror}. Check that you may read it."
                raise DataError(msg) from error
            yield file

    def zarr_store(self) -> Path:
        """Return the folder, which zarr-python opens."""
        return self._path

    def digest(self) -> dict[str, Any]:
        """Return the size in bytes, a sha256 and what that is of."""
        return content_digest(self._path)

    def close(self) -> None:
        """Close the files that this process has open, of this folder and others that share its descriptors."""
        self._descriptors.close()
