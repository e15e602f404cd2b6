"""Files that lie in a bucket or on a server, read by ranges: few requests, many under way.

A request that fails for a passing reason (500, 502, 503, 429, a timeout, a connection or a body that breaks off) is
sent again after a pause that grows and varies. Every answer must be of the version that was opened and have all bytes
that were asked for. What is read goes through the cache of ``data.remote.cache``, if there is one.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge._optional import require
from scmodelforge.data.sources._cache import BLOCK, BlockCache, cache_key
from scmodelforge.data.sources._remote_config import RemoteConfig
from scmodelforge.data.sources._remote_errors import failure, is_other_range, was_changed
from scmodelforge.data.sources._requests import Request, by_blocks, coalesced, in_order
from scmodelforge.data.sources._stores import open_store
from scmodelforge.data.sources._url import RemoteUrl
from scmodelforge.data.sources._version import Version

__all__ = ["Client", "RemoteFile", "client_of"]

_log = logging.getLogger(__name__)

_FIRST_BYTES = 1 << 17
_LONGEST_PAUSE = 15.0
#: The process that has used obstore first; its threads do not survive a fork.
_process: int | None = None


class Client:
    """Connections and threads of one process.

    Parameters
    ----------
    settings
        The settings.
    """

    def __init__(self, settings: RemoteConfig) -> None:
        _refuse_fork()
        self.settings = settings
        self.cache = None
        if settings.cache is not None:
            self.cache = BlockCache(Path(settings.cache).expanduser(), settings.cache_bytes)
        self._threads = ThreadPoolExecutor(settings.max_in_flight, thread_name_prefix="remote")
        self._stores: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._blocks: dict[tuple[str, int], threading.Lock] = {}
        self._uncached: set[str] = set()

    def open(self, url: RemoteUrl, name: str, version: Version | None = None) -> RemoteFile:
        """Return a file that can be read.

        Parameters
        ----------
        url
            Its address.
        name
            What messages call it.
        version
            The version it must have; ``None`` asks for it.

        Raises
        ------
        DataError
            If it is not there, may not be read, or the server does not answer or cannot give parts of files.
        """
        return RemoteFile(self, url, name, version)

    def store(self, url: RemoteUrl) -> tuple[Any, str]:
        """Return the object of obstore for a file, and the file's path in it."""
        where = f"{url.scheme}://{url.host}" if url.in_bucket else url.url
        with self._lock:
            if where not in self._stores:
                self._stores[where] = open_store(url, self.settings)
            return self._stores[where], url.path if url.in_bucket else ""

    def names(self, url: RemoteUrl, folder: str) -> Iterator[str]:
        """Yield the paths of all files in a folder of a bucket and in folders within."""
        for path, _, _ in self.versions(url, folder):
            yield path

    def versions(self, url: RemoteUrl, folder: str) -> Iterator[tuple[str, str, int]]:
        """Yield path, ETag and size in bytes of all files in a folder of a bucket and in folders within."""
        obstore = require("obstore", extra="cloud", why="Reading remote files")
        store = self.store(url)[0]
        try:
            for page in obstore.list(store, prefix=folder or None):
                yield from (
                    (entry["path"], entry["e_tag"] or str(entry["last_modified"]), entry["size"]) for entry in page
                )
            return
        except (obstore.exceptions.BaseError, OSError) as error:
            problem = self.failure(error, url.at(folder), f"the list of {url.at(folder)}")
        raise problem

    def entries(self, folder: RemoteUrl) -> list[str]:
        """Return the names of the files and folders that are directly in a folder of a bucket."""
        obstore = require("obstore", extra="cloud", why="Reading remote files")
        store, path = self.store(folder)
        prefix = path.rstrip("/") + "/"
        try:
            found = obstore.list_with_delimiter(store, prefix=prefix)
            paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
            return [path.removeprefix(prefix).rstrip("/") for path in paths]
        except (obstore.exceptions.BaseError, OSError) as error:
            problem = self.failure(error, folder, f"the list of {folder}")
        raise problem

    def submit(self, file: RemoteFile, request: Request) -> Future[list[bytes]]:
        """Begin a request in a thread."""
        return self._threads.submit(file.pieces, request)

    def turn(self, key: str, block: int) -> threading.Lock:
        """Return what one thread at a time holds while it fetches a block."""
        with self._lock:
            return self._blocks.setdefault((key, block), threading.Lock())

    def failure(self, error: Exception, url: RemoteUrl, name: str) -> DataError:
        """Return what is raised instead of an error of obstore."""
        return failure(error, url, name=name, retries=self.settings.retries, timeout=self.settings.timeout)

    def say_uncached(self, url: RemoteUrl, name: str) -> None:
        """Say once of a file that it is not kept in the cache."""
        with self._lock:
            if url.url in self._uncached:
                return
            self._uncached.add(url.url)
        _log.warning("%s is not kept in data.remote.cache: its server gives no ETag to tell versions by", name)


class RemoteFile:
    """A file of some client; a :class:`~scmodelforge.data.sources._bytes.ByteReader` for any number of threads.

    Attributes
    ----------
    version
        What was opened; reading another version is an error.
    head
        The first bytes of the file, if they came along when its version was asked for.
    """

    def __init__(self, client: Client, url: RemoteUrl, name: str, version: Version | None) -> None:
        self._client, self._url, self._name = client, url, name
        self.head = b""
        self.descriptor = None
        self.version = self._ask() if version is None else version
        self._key: str | None = None
        if client.cache is not None and self.version.is_certain:
            place = f"{client.settings.endpoint or os.environ.get('AWS_ENDPOINT_URL', '')} {url.lasting}"
            self._key = cache_key(place, f"{self.version.etag} {self.version.size}")
        elif client.cache is not None:
            client.say_uncached(url, name)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.version.size

    def ranges(self, starts: np.ndarray, sizes: np.ndarray, *, label: str) -> Iterator[bytes]:
        """Return the ranges of bytes as a ``ByteReader`` does; first requests are under way before one is taken."""
        beyond = np.flatnonzero(starts + sizes > self.size)
        if len(beyond):
            start, size = int(starts[beyond[0]]), int(sizes[beyond[0]])
            msg = (
                f"{label} ends early: {size:,} bytes are needed at byte {start:,} of the file, which has "
                f"{self.size:,}. It is cut off; upload it again."
            )
            raise DataError(msg)
        if self._key is None:
            requests, needs = coalesced(starts, sizes)
        else:
            requests, needs = by_blocks(starts, sizes, block=BLOCK, size=self.size)
        in_flight = self._client.settings.max_in_flight
        return in_order(requests, needs, lambda request: self._client.submit(self, request), ahead=in_flight)

    def pieces(self, request: Request) -> list[bytes]:
        """Return the pieces of a request, from the cache or the server."""
        cache, key = self._client.cache, self._key
        if cache is None or key is None:
            return _cut(self._fetch(request.start, request.stop), request)
        block, size = request.start // BLOCK, request.stop - request.start
        spans = [(start - request.start, stop - request.start) for start, stop in request.pieces]
        kept = cache.read(key, block, size, spans)
        if kept is not None:
            return kept
        with self._client.turn(key, block):  # threads that need the same block wait for the first of them
            kept = cache.read(key, block, size, spans)
            if kept is not None:
                return kept
            content = self._fetch(request.start, request.stop)
            cache.write(key, block, content)
        return _cut(content, request)

    def _ask(self) -> Version:
        """Return the version that is there now. A request for bytes: presigned addresses allow no other."""
        answer, body = self._whole(0, _FIRST_BYTES, {})
        self.head = bytes(body)
        return Version.of(answer)

    def _fetch(self, start: int, stop: int) -> memoryview:
        """Return some bytes of the version that was opened."""
        answer, body = self._whole(start, stop, {"if_match": self.version.etag} if self.version.is_certain else {})
        if not self.version.is_same(Version.of(answer)):
            raise was_changed(self._name, self._url)
        return body

    def _whole(self, start: int, stop: int, options: dict[str, Any]) -> tuple[Any, memoryview]:
        """Return an answer and all bytes that were asked for, as far as the file goes.

        Everything else is sent again by obstore; only answers that seem right and have too few bytes are left to do.
        """
        retries = self._client.settings.retries
        for attempt in range(retries + 1):
            answer, body = self._get({"range": (start, stop), **options})
            if answer is not None and len(body) == min(stop, Version.of(answer).size) - start:
                return answer, body
            if attempt < retries:
                time.sleep(random.uniform(0.5, 1) * min(_LONGEST_PAUSE, 0.1 * 2**attempt))
        raise DataError(
            f"{self._name} cannot be read: {self._url} gives fewer bytes than it was asked for, {retries + 1} times; "
            "the server or something between is at fault. Try again later."
        )

    def _get(self, options: dict[str, Any]) -> tuple[Any, memoryview]:
        """Return an answer and its bytes; ``None`` if they are of another range."""
        obstore = require("obstore", extra="cloud", why="Reading remote files")
        store, path = self._client.store(self._url)
        try:
            answer = obstore.get(store, path, options=options)
            return answer, memoryview(answer.bytes())
        except (obstore.exceptions.BaseError, OSError) as error:
            if is_other_range(error):
                return None, memoryview(b"")
            # raised outside of this block, the error is not part of the new one: its words may hold a signature
            problem = self._client.failure(error, self._url, self._name)
        raise problem


def client_of(clients: dict[int, Client], settings: RemoteConfig) -> Client:
    """Return this process's client; one that came along with a fork is not touched."""
    if os.getpid() not in clients:
        clients.setdefault(os.getpid(), Client(settings))
    return clients[os.getpid()]


def _cut(content: memoryview, request: Request) -> list[bytes]:
    return [bytes(content[start - request.start : stop - request.start]) for start, stop in request.pieces]


def _refuse_fork() -> None:
    global _process
    if _process is None:
        _process = os.getpid()
    if _process != os.getpid():
        msg = (
            "Remote files cannot be read by a process that was forked from one that has read some. Let workers begin "
            "anew: DataLoader(..., multiprocessing_context='spawn'); or use the loader's own threads, data.num_workers."
        )
        raise DataError(msg)
