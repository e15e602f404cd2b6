"""The files and zarr stores that ``data.paths`` names, and a short name for each."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from scmodelforge._errors import DataError, nearest
from scmodelforge.data.sources._at_once import several_at_once
from scmodelforge.data.sources._remote_config import RemoteConfig
from scmodelforge.data.sources._url import COLLECTION, RemoteUrl, is_remote, parse_url

__all__ = ["Location", "resolve_paths", "short_names"]

#: Where a file or store lies: on this machine or elsewhere.
Location = Path | RemoteUrl

#: Groups of an annbatch collection, each an AnnData of its own.
_MEMBER = re.compile(r"dataset_(\d+)")


def resolve_paths(paths: Sequence[str], remote: RemoteConfig | None = None) -> list[Location]:
    """Return the .h5ad files and the folders of AnnData zarr stores of ``data.paths``.

    ``~`` is the home folder, a pattern gives all that match, sorted, an annbatch collection its AnnData in the order of
    their numbers.

    Parameters
    ----------
    paths
        Paths, patterns and addresses.
    remote
        How buckets and servers are asked.

    Raises
    ------
    DataError
        If an entry is missing, another folder or a pattern without match, or if two are one file.
    """
    settings = remote or RemoteConfig()
    expanded: list[Sequence[Location]]
    if any(map(is_remote, paths)):
        expanded = several_at_once(lambda entry: _expand_any(entry, settings), paths)
    else:
        expanded = [_expand(entry) for entry in paths]
    found = [path for entry in expanded for path in entry]
    _refuse_repeats([path for path in found if isinstance(path, Path)])
    _refuse_repeated_addresses([path for path in found if isinstance(path, RemoteUrl)])
    return found


def short_names(paths: Sequence[Location]) -> list[str]:
    """Return the file names, each with as many of its folders as tell it from the others. The files must differ.

    What is in a collection has the collection's name in front.
    """
    parts = [path.parts if isinstance(path, RemoteUrl) else path.absolute().parts for path in paths]
    parts = [(*part[:-2], "/".join(part[-2:])) if _MEMBER.fullmatch(part[-1]) else part for part in parts]
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return ["/".join(part[-depth:]) for part in parts]


def _expand_any(entry: str, remote: RemoteConfig) -> Sequence[Location]:
    return _expand_address(entry, remote) if is_remote(entry) else _expand(entry)


def _expand_address(entry: str, remote: RemoteConfig) -> list[RemoteUrl]:
    from scmodelforge.data.sources._remote_files import find_remote, find_stores

    url = parse_url(entry)
    if url.is_pattern:
        return find_remote(url, remote)
    return find_stores(url, remote) if url.is_folder else [url]


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
        return _stores(entry, path)
    if has_magic(entry):
        matches = [Path(match) for match in sorted(glob(str(path), recursive=True))]
        if not matches:
            msg = f"data.paths: no file matches '{entry}'; correct the pattern, or list the files."
            raise DataError(msg)
        return [file for match in matches for file in _expand(str(match))]
    raise DataError(_missing(entry, path))


def _stores(entry: str, path: Path) -> list[Path]:
    """Return the AnnData of a folder that is a zarr store."""
    attributes = _zarr_attributes(entry, path)
    if attributes is None:
        hint = (
            "it has neither zarr.json nor .zgroup, so it is no zarr store; copy it again from where it came"
            if path.suffix == ".zarr"
            else f"list its files, or use a pattern: '{path / '*.h5ad'}'"
        )
        msg = f"data.paths: '{entry}' is a folder, and .h5ad files or zarr stores are needed; {hint}."
        raise DataError(msg)
    encoding = attributes.get("encoding-type")
    if encoding == COLLECTION:
        members = {int(found[1]): path / name for name in os.listdir(path) if (found := _MEMBER.fullmatch(name))}
        if not members:
            msg = f"data.paths: '{entry}' is an annbatch collection without dataset_0 or any other; copy it again."
            raise DataError(msg)
        return [members[number] for number in sorted(members)]
    if encoding not in (None, "anndata"):
        msg = f"data.paths: '{entry}' is a zarr store with '{encoding}'; AnnData or an annbatch collection is needed."
        raise DataError(msg)
    return [path]


def _zarr_attributes(entry: str, path: Path) -> dict[str, Any] | None:
    """Return the attributes of the group that a folder is by zarr's rules, version 3 or 2, or ``None``."""
    try:
        if (path / "zarr.json").is_file():
            return dict(json.loads((path / "zarr.json").read_bytes()).get("attributes", {}))
        if (path / ".zgroup").is_file():
            attributes = path / ".zattrs"
            return dict(json.loads(attributes.read_bytes())) if attributes.is_file() else {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        msg = f"data.paths: '{entry}' has metadata that cannot be read ({error}); copy the store again."
        raise DataError(msg) from error
    return None


def _missing(entry: str, path: Path) -> str:
    if path.exists():
        return f"data.paths: '{entry}' is not a regular file; .h5ad files or zarr stores are needed."
    folder = path.parent
    if not folder.is_dir():
        return f"data.paths: no file '{entry}', nor a folder '{folder}'; correct the path."
    names = os.listdir(folder) if os.access(folder, os.R_OK) else []
    hint = nearest(path.name, [name for name in names if name.endswith((".h5ad", ".zarr", path.suffix or ".h5ad"))])
    return f"data.paths: no file '{entry}'.{hint or ' Correct the path.'}"


def _refuse_repeats(paths: Sequence[Path]) -> None:
    seen: dict[tuple[int, int], Path] = {}
    for path in paths:
        status = path.stat()
        first = seen.setdefault((status.st_dev, status.st_ino), path)
        if first is not path:
            msg = f"data.paths: '{first}' and '{path}' are one {'store' if path.is_dir() else 'file'}; list it once."
            raise DataError(msg)


def _refuse_repeated_addresses(urls: Sequence[RemoteUrl]) -> None:
    seen: dict[tuple[str, ...], RemoteUrl] = {}
    for url in urls:
        first = seen.setdefault(url.parts, url)
        if first is url:
            continue
        if first.lasting == url.lasting:
            msg = f"data.paths: '{url}' is listed twice; list it once."
        else:
            msg = f"data.paths: two addresses '{url}' differ only behind '?', and could not be told apart; rename one."
        raise DataError(msg)
