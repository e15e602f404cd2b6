"""The remote files of a source, and folders of remote files. Copies by pickle connect anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import Any

import h5py
import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.sources._block_file import BlockFile
from scmodelforge.data.sources._bytes import ByteReader
from scmodelforge.data.sources._hdf5 import CHUNK_CACHE, H5adFile, OpenH5ad
from scmodelforge.data.sources._remote import Client, RemoteFile, client_of
from scmodelforge.data.sources._remote_config import RemoteConfig
from scmodelforge.data.sources._remote_errors import MissingObjectError
from scmodelforge.data.sources._url import COLLECTION, RemoteUrl, matches
from scmodelforge.data.sources._version import Version

__all__ = ["RemoteFiles", "RemoteFolder", "RemoteH5ad", "find_remote", "find_stores"]

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class RemoteFiles:
    """Files under addresses, each of the version that it had when it was first opened.

    Parameters
    ----------
    settings
        The settings.
    """

    def __init__(self, settings: RemoteConfig) -> None:
        self._settings = settings
        self._versions: dict[RemoteUrl, Version] = {}
        self._clients: dict[int, Client] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_settings": self._settings, "_versions": dict(self._versions), "_clients": {}}

    def open(self, url: RemoteUrl, name: str) -> RemoteFile:
        """Return a file that any number of threads may read.

        Parameters
        ----------
        url
            Its address.
        name
            What messages call it.

        Raises
        ------
        DataError
            If it is not there or cannot be read in parts.
        """
        file = self.connect().open(url, name, self._versions.get(url))
        self._versions.setdefault(url, file.version)
        return file

    def open_h5(self, url: RemoteUrl, name: str, *, chunk_cache: int) -> h5py.File:
        """Return an .h5ad file as h5py reads it. It must be closed before the interpreter ends.

        Parameters
        ----------
        url, name
            As in :meth:`open`.
        chunk_cache
            Decompressed bytes kept of each data set.
        """
        file = self.open(url, name)
        try:
            h5 = h5py.File(BlockFile(file, name), "r", rdcc_nbytes=chunk_cache)
        except OSError as error:
            raise DataError(_explain(file, name, error)) from error
        return h5

    def digest(self, url: RemoteUrl) -> dict[str, Any]:
        """Return the size of a file that was opened and the sha256 of its version."""
        return self._versions[url].digest()

    def connect(self) -> Client:
        """Return this process's client.

        Raises
        ------
        DataError
            If this process was forked from one that has read remote files.
        """
        return client_of(self._clients, self._settings)

    def close(self) -> None:
        """Leave the connections. They are made again when needed."""
        self._clients.clear()


class RemoteH5ad:
    """An .h5ad file under an address.

    Parameters
    ----------
    url
        The address.
    name
        What messages call the file.
    files
        What reads it.
    """

    errors = H5adFile.errors
    is_remote = True

    def __init__(self, url: RemoteUrl, name: str, files: RemoteFiles) -> None:
        self.name = name
        self._url, self._files = url, files

    def open(self) -> OpenH5ad:
        """Open it with h5py, which asks for ranges of bytes."""
        return OpenH5ad(self._files.open_h5(self._url, self.name, chunk_cache=CHUNK_CACHE))

    @contextmanager
    def reader(self, key: str) -> Iterator[ByteReader]:
        """Give it to any number of threads for reads by position; all chunks are in one file."""
        yield self._files.open(self._url, self.name)

    def digest(self) -> dict[str, Any]:
        """Return its size in bytes, the sha256 of its version and what that is of."""
        return self._files.digest(self._url)

    def close(self) -> None:
        """Leave the connections. They are made again when needed."""
        self._files.close()


class RemoteFolder:
    """A folder in a bucket or on a server, such as a zarr store. A copy by pickle connects anew.

    Parameters
    ----------
    url
        The folder's address.
    settings
        The settings.
    name
        What messages call the folder.
    """

    is_remote = True

    def __init__(self, url: RemoteUrl, settings: RemoteConfig, name: str) -> None:
        self.lists_files = url.in_bucket
        self._url, self._settings, self._name = url, settings, name
        self._files = RemoteFiles(settings)

    @contextmanager
    def reader(self, key: str) -> Iterator[ByteReader]:
        """Give a file of the folder to any number of threads.

        Parameters
        ----------
        key
            Its path in the folder.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        DataError
            If it cannot be read.
        """
        try:
            file = self._files.open(self._url.within(key), f"{self._name}: {key}")
        except MissingObjectError as error:
            raise FileNotFoundError(str(error)) from error
        yield file

    def zarr_store(self) -> Any:
        """Return the folder as a store of zarr-python, to be read only."""
        from scmodelforge.data.sources._remote_store import FolderStore

        client = self._files.connect()
        return FolderStore(self, self._name, lambda folder: client.entries(self._url.within(folder)))

    def digest(self) -> dict[str, Any]:
        """Return the size in bytes, a sha256 and what that is of: all files' versions, or on a server the metadata's.

        A server does not list its files; there the size is that of the metadata.
        """
        if self._url.in_bucket:
            found = sorted(self._files.connect().versions(self._url, self._url.path.rstrip("/") + "/"))
            whole = hashlib.sha256("\n".join(f"{path} {mark} {size}" for path, mark, size in found).encode())
            size = sum(size for _, _, size in found)
            return {"bytes": size, "sha256": whole.hexdigest(), "sha256_of": "ETags and sizes of all files"}
        for key in ("zarr.json", ".zmetadata", ".zattrs"):
            with suppress(FileNotFoundError), self.reader(key) as file:
                content = next(file.ranges(np.zeros(1, np.int64), np.array([file.size]), label=self._name))
                return {"bytes": file.size, "sha256": hashlib.sha256(content).hexdigest(), "sha256_of": key}
        msg = f"{self._name} has no metadata any more ({self._url}); it was changed while being read."
        raise DataError(msg)

    def close(self) -> None:
        """Leave the connections. They are made again when needed."""
        self._files.close()


def find_stores(url: RemoteUrl, settings: RemoteConfig) -> list[RemoteUrl]:
    """Return the AnnData of a remote folder that is a zarr store: itself, or those of an annbatch collection.

    Raises
    ------
    DataError
        If it is no zarr store, or one of something else.
    """
    folder = RemoteFolder(url, settings, PurePosixPath(url.path).name)
    attributes = _zarr_attributes(folder, url)
    encoding = attributes.get("encoding-type")
    if encoding == COLLECTION:
        members: list[RemoteUrl] = []
        while _is_there(folder, f"dataset_{len(members)}/zarr.json"):
            members.append(url.within(f"dataset_{len(members)}"))
        if not members:
            msg = f"data.paths: '{url}' is an annbatch collection without dataset_0; upload it again."
            raise DataError(msg)
        return members
    if encoding not in (None, "anndata"):
        msg = f"data.paths: '{url}' is a zarr store with '{encoding}'; AnnData or an annbatch collection is needed."
        raise DataError(msg)
    return [url]


def _is_there(folder: RemoteFolder, key: str) -> bool:
    try:
        with folder.reader(key):
            return True
    except FileNotFoundError:
        return False


def _zarr_attributes(folder: RemoteFolder, url: RemoteUrl) -> dict[str, Any]:
    for key in ("zarr.json", ".zattrs", ".zgroup"):
        try:
            with folder.reader(key) as file:
                (content,) = file.ranges(np.zeros(1, np.int64), np.array([file.size]), label=str(url))
        except FileNotFoundError:
            continue
        try:
            found = json.loads(bytes(content))
            attributes = found.get("attributes", {}) if key == "zarr.json" else found
            return dict(attributes) if key != ".zgroup" else {}
        except (ValueError, AttributeError, TypeError) as error:
            msg = f"data.paths: '{url}' has metadata that cannot be read ({error}); upload the store again."
            raise DataError(msg) from error
    msg = (
        f"data.paths: '{url}' is a folder, and .h5ad files or zarr stores are needed; it has neither zarr.json nor "
        ".zgroup. List its files, or use a pattern where there is a bucket."
    )
    raise DataError(msg)


def find_remote(pattern: RemoteUrl, settings: RemoteConfig) -> list[RemoteUrl]:
    """Return the files of a bucket that match a pattern, sorted.

    Raises
    ------
    DataError
        If it is no bucket, nothing matches, or the bucket cannot be listed.
    """
    if not pattern.in_bucket:
        msg = f"data.paths: '{pattern}' is a pattern, and servers do not list their files; list the addresses."
        raise DataError(msg)
    folders = pattern.path.split("/")
    first = next(number for number, part in enumerate(folders) if RemoteUrl(f"s3://b/{part}").is_pattern)
    client = Client(settings)
    found = sorted(path for path in client.names(pattern, "/".join(folders[:first])) if matches(path, pattern.path))
    if not found:
        msg = f"data.paths: no file matches '{pattern}'; correct the pattern, or list the files."
        raise DataError(msg)
    return [pattern.at(path) for path in found]


def _explain(file: RemoteFile, name: str, error: OSError) -> str:
    """Return the message for a file that HDF5 does not open."""
    if not file.head.startswith(_HDF5_SIGNATURE):
        return f"{name} is not an .h5ad file (it does not begin as HDF5 files do); a file that anndata wrote is needed."
    return f"{name} is a damaged or unfinished HDF5 file ({error}); upload it again."
