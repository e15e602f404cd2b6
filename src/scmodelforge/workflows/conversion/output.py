"""Where a conversion writes to: that it can, and that nothing it reads lies there."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from scmodelforge._errors import DataError
from scmodelforge.data.sources._paths import resolve_paths
from scmodelforge.data.sources._url import is_remote

__all__ = ["check_out", "check_place", "partial_of"]

#: An address whose ``//`` may have been taken for ``/`` on its way through a path.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_GROUP_FILES = ("zarr.json", ".zgroup")


def partial_of(out: Path) -> Path:
    """Return the folder for unfinished work that ends as ``out``."""
    return out.with_name(out.name + ".partial")


def check_place(out: Path) -> None:
    """Make sure that a path is one of this machine.

    Raises
    ------
    DataError
        If it is an address.
    """
    address = _ADDRESS.match(str(out))
    if address and not Path(f"{address[1]}:").exists():
        msg = (
            f"OUT is an address ({address[1]}://...), and it must be on this machine: "
            "name a folder here, and copy it there afterwards."
        )
        raise DataError(msg)


def check_out(out: Path, inputs: Sequence[str], *, force: bool) -> None:
    """Make sure that the output can be written and replaces no input, before any work is done for it.

    Parameters
    ----------
    out
        The folder to write.
    inputs
        Files, stores, patterns and addresses that are read.
    force
        Whether a zarr store at ``out`` may be replaced.

    Raises
    ------
    DataError
        If it cannot, or would.
    """
    check_place(out)
    if out.suffix != ".zarr":
        msg = f"{out} does not end in .zarr; the last path is the folder to write, as in: convert a.h5ad cells.zarr"
        raise DataError(msg)
    try:
        for entry in inputs:
            if not is_remote(entry):
                _refuse_input(out, entry)
        _check_what_is_there(out, force=force)
    except OSError as problem:
        msg = f"cannot write to {out} ({problem.strerror}); choose a place you may write to."
        raise DataError(msg) from problem
    _try_to_write(out.absolute().parent)


def _check_what_is_there(out: Path, *, force: bool) -> None:
    if out.is_symlink() and not out.exists():
        msg = f"{out} is a link to something that is not there; remove it, or choose another name."
        raise DataError(msg)
    if out.exists() and not _is_group(out):
        msg = f"{out} is not a zarr store, so it is not replaced; move it away, or choose another name."
        raise DataError(msg)
    if out.exists() and not force:
        msg = f"{out} exists; choose another name, or replace it with --force."
        raise DataError(msg)


def _refuse_input(out: Path, entry: str) -> None:
    """Refuse an output that is an input, holds one, or lies in one; links and spellings make no difference."""
    around_out = [_identity(path) for path in _with_parents(out)]
    replaced = {_identity(path) for path in (out, partial_of(out)) if path.exists()}
    for path in resolve_paths([entry]):
        assert isinstance(path, Path)
        stores = [_identity(each) for each in takewhile(_is_group, _with_parents(path))]
        own = _identity(path.resolve())
        if out.exists() and _identity(out) in (own, *stores):
            msg = f"{out} is read as '{entry}', and an input is never replaced; choose another name for OUT."
        elif any(_identity(each) in replaced for each in _with_parents(path)):
            msg = f"{path} is read and lies inside {out}, or its unfinished work; choose another name for OUT."
        elif any(store in around_out for store in stores):
            msg = f"{out} lies inside a store that is read, '{entry}'; choose another place for OUT."
        else:
            continue
        raise DataError(msg)


def _with_parents(path: Path) -> Iterator[Path]:
    """Yield what there is of a path and the folders around it, links followed."""
    resolved = path.resolve()
    yield from (each for each in (resolved, *resolved.parents) if each.exists())


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _is_group(path: Path) -> bool:
    return any((path / name).is_file() for name in _GROUP_FILES)


def _try_to_write(folder: Path) -> None:
    """Make and remove a folder: rights alone do not tell whether this works."""
    try:
        Path(tempfile.mkdtemp(prefix=".convert-", dir=folder)).rmdir()
    except OSError as problem:
        why = "it is not there" if not folder.exists() else problem.strerror
        msg = f"cannot write to {folder} ({why}); make the folder, or choose one you may write to."
        raise DataError(msg) from problem
