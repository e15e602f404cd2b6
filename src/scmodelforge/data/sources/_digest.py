"""What tells the content of files and folders from another: their size and a sha256, of parts if they are large."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["content_digest"]

_MIB = 1 << 20


def content_digest(path: Path, *, whole_up_to: int = 256 * _MIB, edge: int = 64 * _MIB) -> dict[str, Any]:
    """Return the size in bytes of a file or folder and its sha256, and what the sha256 is of.

    Parameters
    ----------
    path
        The file or folder. Of a folder also the names and sizes of its files are taken.
    whole_up_to
        What has at most so many bytes is read whole. Otherwise its size, its first and last ``edge`` bytes and 64
        samples in between of 1 MiB each are taken; neither its place nor its times, so that a copy has the same.
        For this the files of a folder are one after another, in the order of their names.
    edge
        Bytes at both ends.
    """
    files = _files(path)
    total = sum(size for _, _, size in files)
    digest = hashlib.sha256()
    if path.is_dir():
        for name, _, size in files:
            digest.update(f"{name}\0{size}\0".encode())
    if total <= whole_up_to:
        for part in _read(files, 0, total):
            digest.update(part)
        return {"bytes": total, "sha256": digest.hexdigest(), "sha256_of": "content"}
    digest.update(str(total).encode())
    samples = [(edge + i * (total - 2 * edge) // 64, _MIB) for i in range(64)]
    for start, length in [(0, edge), *samples, (total - edge, edge)]:
        for part in _read(files, start, length):
            digest.update(part)
    return {"bytes": total, "sha256": digest.hexdigest(), "sha256_of": "size, both ends and 64 samples"}


def _files(path: Path) -> list[tuple[str, Path, int]]:
    """Return the name within the folder, the path and the bytes of each file, sorted by name."""
    if path.is_file():
        return [("", path, path.stat().st_size)]
    found = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    return sorted((file.relative_to(path).as_posix(), file, file.stat().st_size) for file in found)


def _read(files: list[tuple[str, Path, int]], start: int, length: int) -> Iterator[bytes]:
    """Yield what a range of the files, one after another, holds; the range may end beyond the last."""
    for _, path, size in files:
        if start < size and length > 0:
            with path.open("rb") as file:
                file.seek(start)
                left = min(length, size - start)
                while left and (part := file.read(min(_MIB, left))):
                    left -= len(part)
                    yield part
            length -= min(length, size - start)
        start = max(0, start - size)
