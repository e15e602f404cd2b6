"""The files that ``data.paths`` names, and a short name for each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from scmodelforge._errors import DataError, nearest

__all__ = ["content_digest", "resolve_paths", "short_names"]

_MIB = 1 << 20


def resolve_paths(paths: Sequence[str]) -> list[Path]:
    """Return the files of ``data.paths``: ``~`` is the home folder, patterns give all matching files, sorted.

    Raises
    ------
    DataError
        If an entry is missing, a folder or a pattern without match, or if two are one file.
    """
    found = [path for entry in paths for path in _expand(entry)]
    _refuse_repeats(found)
    return found


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the file names, each with as many of its folders as tell it from the others. The files must differ."""
    parts = [path.absolute().parts for path in paths]
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return ["/".join(part[-depth:]) for part in parts]


def content_digest(path: Path, *, whole_up_to: int = 256 * _MIB, edge: int = 64 * _MIB) -> dict[str, Any]:
    """Return the size of a file in bytes and its sha256, and what the sha256 is of.

    Parameters
    ----------
    path
        The file.
    whole_up_to
        A file of at most so many bytes is read whole. Of a larger one its size, its first and last ``edge`` bytes and
        64 samples in between of 1 MiB each are taken; neither its place nor its times, so that a copy has the same.
    edge
        Bytes at both ends.
    """
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if size <= whole_up_to:
            while part := file.read(_MIB):
                digest.update(part)
            return {"bytes": size, "sha256": digest.hexdigest(), "sha256_of": "content"}
        digest.update(str(size).encode())
        samples = [(edge + i * (size - 2 * edge) // 64, _MIB) for i in range(64)]
        for start, length in [(0, edge), *samples, (size - edge, edge)]:
            file.seek(start)
            digest.update(file.read(length))
    return {"bytes": size, "sha256": digest.hexdigest(), "sha256_of": "size, both ends and 64 samples"}


def _expand(entry: str) -> list[Path]:
    path = Path(entry).expanduser()
    try:
        is_file, is_dir = path.is_file(), path.is_dir()
    except PermissionError:
        msg = f"data.paths: '{entry}' cannot be reached: you may not open its folder; ask for access or copy it."
        raise DataError(msg) from None
    if is_file:
        return [path]
    if is_dir:
        hint = (
            "zarr stores are not read; write it as .h5ad"
            if path.suffix == ".zarr"
            else f"list its files, or use a pattern: '{path / '*.h5ad'}'"
        )
        msg = f"data.paths: '{entry}' is a folder, and .h5ad files are needed; {hint}."
        raise DataError(msg)
    if has_magic(entry):
        matches = [Path(match) for match in sorted(glob(str(path), recursive=True))]
        if not matches:
            msg = f"data.paths: no file matches '{entry}'; correct the pattern, or list the files."
            raise DataError(msg)
        return [file for match in matches for file in _expand(str(match))]
    raise DataError(_missing(entry, path))


def _missing(entry: str, path: Path) -> str:
    if path.exists():
        return f"data.paths: '{entry}' is not a regular file; .h5ad files are needed."
    folder = path.parent
    if not folder.is_dir():
        return f"data.paths: no file '{entry}', nor a folder '{folder}'; correct the path."
    names = os.listdir(folder) if os.access(folder, os.R_OK) else []
    hint = nearest(path.name, [name for name in names if name.endswith((".h5ad", path.suffix or ".h5ad"))])
    return f"data.paths: no file '{entry}'.{hint or ' Correct the path.'}"


def _refuse_repeats(paths: Sequence[Path]) -> None:
    seen: dict[tuple[int, int], Path] = {}
    for path in paths:
        status = path.stat()
        first = seen.setdefault((status.st_dev, status.st_ino), path)
        if first is not path:
            msg = f"data.paths: '{first}' and '{path}' are one file; list it once."
            raise DataError(msg)
