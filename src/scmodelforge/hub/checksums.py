"""Whether files of a published model are the published ones. What was found is kept: a gigabyte is read once."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scmodelforge._errors import DataError
from scmodelforge._places import cache_folder
from scmodelforge.hub.pretrained import PublishedFile

__all__ = ["check_published", "digest_of", "sha256_of"]

#: Nanoseconds that clocks of disks may be behind.
_TICK = 20_000_000


def check_published(folder: Path, files: Iterable[PublishedFile], *, again: str) -> None:
    """Compare files with what is known of those that were published.

    Parameters
    ----------
    folder
        Where they are.
    files
        What is known.
    again
        What brings a file here again: the end of the message.

    Raises
    ------
    DataError
        If one is missing, or another one.
    """
    files = list(files)
    missing = [each.path for each in files if not (folder / each.path).is_file()]
    if missing:
        msg = f"{folder}: {', '.join(missing)} missing; {again}."
        raise DataError(msg)
    for each in files:
        path = (folder / each.path).resolve()
        size = path.stat().st_size
        if each.bytes is not None and size != each.bytes:
            msg = f"{path}: {size:,} bytes, the published file has {each.bytes:,}; delete it and {again}."
            raise DataError(msg)
        if each.sha256 is not None and sha256_of(path) != each.sha256:
            msg = f"{path}: not the published file, whose sha256 is {each.sha256}; delete it and {again}."
            raise DataError(msg)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file; of one that was read before and has not changed, without reading it.

    A file has not changed if its place on the disk, its size and its times of change are those of before.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        path = path.resolve()
        before = _state(path)
        kept = _kept()
        *state, found = kept.get(str(path), (None, ""))
        if state == before:
            return str(found)
        _let_clock_go_on(before[-1])
        found = digest_of(path)
        is_settled = _state(path) == before
    except OSError as problem:
        msg = f"{path}: cannot be read ({problem.strerror})."
        raise DataError(msg) from problem
    if is_settled:
        _keep({**kept, str(path): (*before, found)})
    return found


def _state(path: Path) -> list[int]:
    """Return what a file has otherwise once it is written again; its own time can be set to any, the last one not."""
    now = path.stat()
    return [now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns]


def _let_clock_go_on(changed: int) -> None:
    """Wait until a change after this one has another time on the disk, whose clock may be coarse."""
    waiting = changed + _TICK - time.time_ns()
    if 0 < waiting <= _TICK:
        time.sleep(waiting / 1e9)


def digest_of(path: Path) -> str:
    """Return the sha256 of a file, which is read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file() -> Path:
    return cache_folder() / "checked.json"


def _kept() -> dict[str, tuple[Any, ...]]:
    """Return by path what :func:`_state` gave, and sha256; nothing if they cannot be read."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
        return {str(path): (*map(int, state), str(sha)) for path, (*state, sha) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _keep(kept: dict[str, tuple[Any, ...]]) -> None:
    """Write them whole or not at all; where that is not possible, files are read again next time."""
    temporary = _file().with_name(f".checked.{os.getpid()}.json")
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(kept, indent=0), encoding="utf-8")
        temporary.replace(_file())
    except OSError:
        temporary.unlink(missing_ok=True)
