"""The folder of fetched data sets: ``NAME.h5ad``, and beside it ``NAME.pin.json`` with what its content must be.

A pin is written when a file is first fetched or found, and kept when the file goes: what is fetched later must be the
same. It also holds size and time of change of the file that was checked, so that no file is read whole at each use.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from scmodelforge._errors import DataError
from scmodelforge._json_files import read_json_object
from scmodelforge._places import cache_folder
from scmodelforge.datasets.contents import check_contents
from scmodelforge.datasets.entries import DatasetInfo

__all__ = [
    "FOLDER_VARIABLE",
    "MIRROR_VARIABLE",
    "Pin",
    "data_folder",
    "file_digest",
    "how_to_fetch",
    "kept_file",
    "locked",
    "read_pin",
]

_log = logging.getLogger(__name__)

#: Names another folder than the one in :func:`cache_folder`.
FOLDER_VARIABLE = "SCMODELFORGE_DATASETS"
#: Address of a folder on a server that has the files as ``NAME.h5ad``.
MIRROR_VARIABLE = "SCMODELFORGE_DATASETS_MIRROR"
_BLOCK = 8 << 20
_LOCK_SECONDS = 0.2  # between two tries


@dataclass(frozen=True, slots=True)
class Pin:
    """What a data set's file must be, and which file was found to be that.

    Attributes
    ----------
    sha256
        Checksum of the content.
    bytes, mtime_ns
        Size and time of last change of the file that was checked.
    origin
        Where it came from: an address without its query, or ``found``.
    pinned
        Day on which the checksum was taken.
    """

    sha256: str
    bytes: int
    mtime_ns: int
    origin: str
    pinned: str

    @classmethod
    def of(cls, file: Path, sha256: str, *, origin: str) -> Pin:
        """Return the pin of a file whose checksum was just taken."""
        status = file.stat()
        return cls(sha256, status.st_size, status.st_mtime_ns, origin, time.strftime("%Y-%m-%d"))

    def is_of(self, file: Path) -> bool:
        """Return whether a file is the one that was checked, by size and time of change."""
        status = file.stat()
        return (status.st_size, status.st_mtime_ns) == (self.bytes, self.mtime_ns)

    def write(self, path: Path) -> None:
        """Write the pin as a whole or not at all."""
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")
        temporary.replace(path)


def data_folder() -> Path:
    """Return the folder of fetched data sets: ``SCMODELFORGE_DATASETS``, or ``datasets`` in the cache folder."""
    own = os.environ.get(FOLDER_VARIABLE)
    return Path(own).expanduser() if own else cache_folder() / "datasets"


def kept_file(data: DatasetInfo) -> Path:
    """Return the file of a data set that was fetched or put into the folder, and is what it was before.

    Raises
    ------
    DataError
        If it is not there, no such data set, or another file than was pinned.
    """
    folder = data_folder()
    file = folder / f"{data.name}.h5ad"
    if os.environ.get(FOLDER_VARIABLE) and not folder.is_dir():
        msg = f"{FOLDER_VARIABLE} names '{folder}', which is no folder; correct it, or make the folder."
        raise DataError(msg)
    if not file.is_file():
        begun = " A part of it has arrived; this goes on with it." if file.with_suffix(".h5ad.part").exists() else ""
        msg = f"data set '{data.name}' is not on this machine (no {file}); {how_to_fetch(data)}.{begun}"
        raise DataError(msg)
    pin_path = folder / f"{data.name}.pin.json"
    if not _is_checked(data, file, read_pin(pin_path)):
        with _locked_if_possible(folder, data.name):
            pin = read_pin(pin_path)  # another process may have checked it meanwhile
            if not _is_checked(data, file, pin):
                _check(data, file, pin, pin_path)
    return file


def how_to_fetch(data: DatasetInfo) -> str:
    """Return the words that say how to get a data set's file."""
    command = f"scmodelforge datasets fetch {data.name}"
    if data.url is not None or os.environ.get(MIRROR_VARIABLE):
        return f"fetch it with: {command}"
    return f"get {data.where}, and give its address or file: {command} --from URL-OR-FILE"


def read_pin(path: Path) -> Pin | None:
    """Return the pin in a file, or ``None`` if there is none.

    Raises
    ------
    DataError
        If it is damaged.
    """
    if not path.exists():
        return None
    found = read_json_object(path, "remove it to take the data set's file as it is now")
    try:
        return Pin(**found)
    except TypeError as problem:
        msg = f"{path}: no pin of this version ({problem}); remove it to take the data set's file as it is now."
        raise DataError(msg) from problem


def file_digest(file: Path, progress: Callable[[int, int], None] | None = None) -> str:
    """Return the sha256 of a whole file; ``progress`` is told the bytes read and their total."""
    digest, total, done = hashlib.sha256(), file.stat().st_size, 0
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(done, total)
    return digest.hexdigest()


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock of a data set, which one process has at a time; it is free when its process ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / f".{name}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        _log.info(f"{name}: another process fetches or checks it; waiting")
        lock.acquire(poll_interval=_LOCK_SECONDS)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _locked_if_possible(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock, if the folder can be written: a shared one may be for reading only."""
    if not os.access(folder, os.W_OK):
        yield
        return
    with locked(folder, name):
        yield


def _is_checked(data: DatasetInfo, file: Path, pin: Pin | None) -> bool:
    return pin is not None and data.sha256 in (None, pin.sha256) and pin.is_of(file)


def _check(data: DatasetInfo, file: Path, pin: Pin | None, pin_path: Path) -> None:
    check_contents(file, data)
    _log.info(f"{data.name}: checking {file} ({file.stat().st_size / 1e9:,.1f} GB), once")
    found = file_digest(file)
    wanted = data.sha256 or (pin.sha256 if pin else None)
    if wanted not in (None, found):
        since = f"pinned on {pin.pinned}" if pin and pin.sha256 == wanted else "published"
        msg = (
            f"{file} is damaged or another file: its sha256 is {found[:12]}..., {since} was {wanted:.12}...; "
            f"fetch it again with: scmodelforge datasets fetch {data.name} --force"
        )
        raise DataError(msg)
    new = Pin.of(file, found, origin="found")
    if pin is not None and pin.sha256 == found:
        new = replace(new, origin=pin.origin, pinned=pin.pinned)
    try:
        new.write(pin_path)
    except OSError as problem:
        _log.warning(f"{pin_path} cannot be written ({problem.strerror}): {file.name} is read whole at each use")
