"""Whether files of a published model are the published ones. What was found is kept: a gigabyte is read once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from scmodelforge._errors import DataError
from scmodelforge._places import cache_folder
from scmodelforge.hub.pretrained import PublishedFile

__all__ = ["check_published", "sha256_of"]

_CHUNK = 8 * 2**20


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
    """Return the sha256 of a file; of one that was read before and has not changed, without reading it."""
    path = path.resolve()
    now = path.stat()
    kept = _kept()
    size, changed, found = kept.get(str(path), (None, None, ""))
    if (size, changed) == (now.st_size, now.st_mtime_ns):
        return found
    found = _read(path)
    _keep({**kept, str(path): (now.st_size, now.st_mtime_ns, found)})
    return found


def _read(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _file() -> Path:
    return cache_folder() / "checked.json"


def _kept() -> dict[str, tuple[int, int, str]]:
    """Return size, time of change and sha256 by path; nothing if they cannot be read."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
        return {str(path): (int(size), int(changed), str(sha)) for path, (size, changed, sha) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _keep(kept: dict[str, tuple[int, int, str]]) -> None:
    """Write them whole or not at all; where that is not possible, files are read again next time."""
    temporary = _file().with_name(f".checked.{os.getpid()}.json")
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(kept, indent=0), encoding="utf-8")
        temporary.replace(_file())
    except OSError:
        temporary.unlink(missing_ok=True)
