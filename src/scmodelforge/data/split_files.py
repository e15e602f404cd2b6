"""A split in a file of its own: the cells of both sides, which files they are cells of, and a hash of all that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scmodelforge._errors import DataError
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.splits import CellSplit, split_digest

__all__ = ["read_split", "write_split"]

_FACTS = ("name", "cells", "bytes", "sha256", "sha256_of")


def write_split(path: Path, split: CellSplit, source: CellSource, *, expression: str | None) -> str:
    """Write a split in the form of a run's ``splits.json``, with the files it is of, and return its hash.

    Parameters
    ----------
    path
        The file.
    split
        The split.
    source
        The cells.
    expression
        The filter that cells on neither side were left out by.
    """
    body = split.to_dict()
    body["split_hash"] = body.pop("hash")  # of the cells alone, as result records have it
    body["filter"] = expression
    body["files"] = [{key: entry[key] for key in _FACTS if key in entry} for entry in source.fingerprint()]
    found = split_digest(body)
    temporary = path.with_name(path.name + ".writing")
    temporary.write_text(json.dumps({**body, "hash": found}) + "\n")
    temporary.replace(path)
    return found


def read_split(path: Path, source: CellSource) -> CellSplit:
    """Read the split of a source's cells from a file.

    Raises
    ------
    DataError
        If the file is missing, damaged or no split, or is one of other data; the message names what differs.
    """
    stored = _load(path)
    split = CellSplit.from_dict(stored, origin=str(path))
    files = stored.get("files") or _files_of_run(path)
    if not files:
        msg = (
            f"data.split.file: {path} does not say which files it is a split of, and no run.json beside it does; make "
            "one with: scmodelforge data split."
        )
        raise DataError(msg)
    _check_files(path, files, source.fingerprint())
    return split


def _files_of_run(path: Path) -> list[dict[str, Any]]:
    """Return the files of the run whose own ``splits.json`` a file is; none if it lies in no run."""
    try:
        found = json.loads((path.parent / "run.json").read_text())["data"]
        return [{name: entry[name] for name in _FACTS if name in entry} for entry in found]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _load(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text())
    except FileNotFoundError:
        msg = f"data.split.file: no file '{path}'; correct the path, or make one with: scmodelforge data split."
        raise DataError(msg) from None
    except (OSError, ValueError) as problem:
        msg = f"data.split.file: {path} cannot be read ({problem}); make one with: scmodelforge data split."
        raise DataError(msg) from problem
    if not isinstance(stored, dict) or not {"train", "validation", "hash"} <= stored.keys():
        msg = f"data.split.file: {path} is no split; make one with: scmodelforge data split."
        raise DataError(msg)
    return stored


def _check_files(path: Path, before: list[dict[str, Any]], now: list[dict[str, Any]]) -> None:
    """Refuse other files than those the split was made of. Their names and places may differ."""
    digests = [entry["sha256"] for entry in before]
    if [entry["sha256"] for entry in now] == digests:
        return
    names = [entry["name"] for entry in before]
    if sorted(entry["sha256"] for entry in now) == sorted(digests):
        msg = f"{path} is a split of the same files in another order; list them in data.paths as: {', '.join(names)}."
        raise DataError(msg)
    if len(before) != len(now):
        msg = f"{path} is a split of {len(before)} files ({', '.join(names[:5])}), but the data have {len(now)}"
    else:
        place = next(i for i, entry in enumerate(now) if entry["sha256"] != digests[i])
        then, here = before[place], now[place]
        kinds = then.get("sha256_of"), here.get("sha256_of")
        if kinds[0] != kinds[1]:  # the same file may lie here and in a bucket, which gives no sha256 of its content
            msg = (
                f"{path} knows {then['name']} by its {kinds[0]}, and here it is known by its {kinds[1]}; split the "
                "data where they are read from, with: scmodelforge data split."
            )
            raise DataError(msg)
        msg = (
            f"{path} is a split of other data: file {place + 1} is {here['name']} with {here['cells']:,} cells, it was "
            f"{then['name']} with {then['cells']:,} cells and other content"
        )
    msg += "; split these data with: scmodelforge data split."
    raise DataError(msg)
