"""Files and folders that are either whole or absent: atomic writes, checksums."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

__all__ = ["MANIFEST", "find_damage", "put_folder", "sync_folder", "write_manifest", "write_text"]

#: The file with the checksums of all others in its folder, written last.
MANIFEST = "MANIFEST.json"


def write_text(path: Path, text: str) -> None:
    """Replace a file by a text: afterwards, whatever happens, it has the old or the new content."""
    temporary = path.with_name(f".{path.name}.writing")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync(path.parent)


def put_folder(new: Path, target: Path) -> None:
    """Put a folder with files in the place of another: afterwards it is the old or the new one, never some of both.

    Killed in between, it may be missing; then both lie beside it.
    """
    for path in new.iterdir():
        _sync(path)
    _sync(new)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.is_dir():
        target.rename(old)
    new.rename(target)
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_manifest(folder: Path) -> None:
    """Write the size and sha256 of every file of a folder, after they all have reached the disk."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        _sync(path)
    facts = {path.relative_to(folder).as_posix(): _facts(path) for path in files}
    write_text(folder / MANIFEST, json.dumps({"files": facts}, indent=1) + "\n")
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            _sync(path)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, after a rename."""
    _sync(folder)


def find_damage(folder: Path) -> str | None:
    """Return what is wrong with a folder that has a manifest, in words with the file's name, or ``None``."""
    path = folder / MANIFEST
    try:
        expected = json.loads(path.read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (ValueError, KeyError, TypeError):
        return f"{MANIFEST} is damaged"
    for name, facts in expected.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != facts["size"]:
            return f"{name} has {file.stat().st_size:,} of {facts['size']:,} bytes"
        if _facts(file) != facts:
            return f"{name} does not match its checksum"
    return None


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
