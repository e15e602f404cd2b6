"""Parts of remote files kept on this machine's disk, for the next pass and the next run.

A file is cut into blocks of 4 MiB. A block is a file of its own, named by a hash of the remote file's address, version
(ETag) and size, so that a changed file has other blocks. Each page of 64 KiB has a checksum; a block that is damaged or
cut off counts as absent and is fetched anew. It is written under another name and then renamed, so that a process that
is killed leaves nothing that is taken for whole. Any number of processes may share a folder.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import secrets
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from scmodelforge._errors import DataError

__all__ = ["BLOCK", "BlockCache", "cache_key"]

_log = logging.getLogger(__name__)

#: Bytes of a block.
BLOCK = 4 << 20
_PAGE = 64 << 10
_MAGIC = b"scmfblk1"
_SUFFIX, _UNFINISHED = ".block", ".part"
#: Bytes a process writes before it counts again what all of them keep.
_BETWEEN_COUNTS = 64 << 20
_FORGOTTEN_SECONDS = 3600
#: A block's time of last use is noted this often.
_TOUCH_SECONDS = 60


class BlockCache:
    """Blocks of remote files in a folder.

    The folder stays below ``limit``; with several processes it may pass it by 64 MiB for each further one. What was
    used longest ago goes first. When the disk is full or cannot be written, nothing more is kept, one warning says so,
    and what is there is still used.

    Parameters
    ----------
    folder
        The folder; it is made.
    limit
        Most bytes kept.

    Raises
    ------
    DataError
        If the folder cannot be made or written.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._between = min(_BETWEEN_COUNTS, limit // 4)
        self._left = 0  # bytes that may be written before the next count
        self._stopped = False
        self._touched: dict[Path, float] = {}
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                msg = f"data.remote.cache: '{folder}' cannot be written ({error.strerror}); name another folder."
                raise DataError(msg) from error
            self._stop(error)

    def read(self, key: str, block: int, size: int, spans: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Return some parts of a block, or ``None`` if it is not kept or damaged.

        Parameters
        ----------
        key
            The remote file and its version, as :func:`cache_key` gives it.
        block
            Number of the block.
        size
            Bytes of the block: all but a file's last one have 4 MiB.
        spans
            First byte and end of each part, counted from the block's beginning.
        """
        path = self._path(key, block)
        try:
            with path.open("rb", buffering=0) as file:
                found = _read_spans(file.fileno(), size, spans)
        except OSError:
            return None  # absent, or evicted by another process: it is fetched
        if found is not None:
            self._touch(path)
        return found

    def write(self, key: str, block: int, content: bytes | memoryview) -> None:
        """Keep a block, if there is room on the disk."""
        total = len(content) + _head_size(len(content))
        if self._stopped:
            return
        path = self._path(key, block)
        unfinished = path.with_name(f"{os.getpid()}-{secrets.token_hex(8)}{_UNFINISHED}")
        try:
            self._make_room(total)
            path.parent.mkdir(exist_ok=True)
            try:
                with unfinished.open("xb", buffering=0) as file:
                    _write_all(file.fileno(), _head(content), content)
                unfinished.replace(path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
        except OSError as error:
            self._stop(error)

    def _path(self, key: str, block: int) -> Path:
        return self._folder / key[:2] / f"{key}-{block}{_SUFFIX}"

    def _stop(self, error: OSError) -> None:
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
        _log.warning(
            "data.remote.cache: '%s' takes no more (%s); reading goes on without keeping what is read",
            self._folder,
            error.strerror or error,
        )

    def _touch(self, path: Path) -> None:
        now = time.time()
        if now - self._touched.get(path, 0) < _TOUCH_SECONDS:
            return
        self._touched[path] = now
        try:
            os.utime(path)
        except OSError:
            return  # evicted meanwhile, or a folder that is only read

    def _make_room(self, size: int) -> None:
        with self._lock:
            if self._left < size:
                self._left = self._between
                self._evict(max(0, self._limit - max(self._between, size)))
            self._left -= size

    def _evict(self, most: int) -> None:
        """Count what all processes keep, and remove what was used longest ago until no more than ``most`` is left."""
        kept = []
        for entry in _entries(self._folder):
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue  # another process has removed it
            if entry.name.endswith(_UNFINISHED) and time.time() - status.st_mtime > _FORGOTTEN_SECONDS:
                Path(entry.path).unlink(missing_ok=True)
            else:
                kept.append((status.st_mtime, status.st_size, entry))
        total = sum(size for _, size, _ in kept)
        for _, size, entry in sorted(kept, key=lambda one: one[0]):
            if total <= most:
                return
            if entry.name.endswith(_SUFFIX):
                Path(entry.path).unlink(missing_ok=True)
                self._touched.pop(Path(entry.path), None)
                total -= size


def cache_key(lasting: str, version: str) -> str:
    """Return the name under which blocks of a version of a remote file are kept; the address cannot be told from it."""
    return hashlib.sha256(f"{lasting}\n{version}".encode()).hexdigest()


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    for sub in os.scandir(folder):
        if len(sub.name) == 2 and sub.is_dir(follow_symlinks=False):
            for entry in os.scandir(sub.path):
                if entry.name.endswith((_SUFFIX, _UNFINISHED)):
                    yield entry


def _head_size(size: int) -> int:
    return len(_MAGIC) + 8 + 4 * (-(-size // _PAGE)) + 4


def _head(content: bytes | memoryview) -> bytes:
    """Return what stands before a block's bytes: its size, a checksum of each page, and one of all that."""
    view = memoryview(content)
    sums = [zlib.crc32(view[start : start + _PAGE]) for start in range(0, len(view), _PAGE)]
    head = _MAGIC + len(view).to_bytes(8, "little") + np.array(sums, dtype="<u4").tobytes()
    return head + zlib.crc32(head).to_bytes(4, "little")


def _read_spans(file: int, size: int, spans: Sequence[tuple[int, int]]) -> list[bytes] | None:
    length = _head_size(size)
    if os.fstat(file).st_size != length + size:
        return None
    head = os.pread(file, length, 0)
    if len(head) != length or head[:8] != _MAGIC or zlib.crc32(head[:-4]).to_bytes(4, "little") != head[-4:]:
        return None
    if int.from_bytes(head[8:16], "little") != size:
        return None
    sums = np.frombuffer(head[16:-4], dtype="<u4")
    found = []
    for start, stop in spans:
        first, last = start // _PAGE, -(-stop // _PAGE)
        pages = memoryview(os.pread(file, min(last * _PAGE, size) - first * _PAGE, length + first * _PAGE))
        for page in range(first, last):
            at = (page - first) * _PAGE
            if zlib.crc32(pages[at : at + _PAGE]) != sums[page]:
                return None
        found.append(bytes(pages[start - first * _PAGE : stop - first * _PAGE]))
    return found


def _write_all(file: int, *parts: bytes | memoryview) -> None:
    for part in parts:
        view = memoryview(part)
        while len(view):
            view = view[os.write(file, view) :]
