"""A copy of an AnnData file with something added, which is there whole or not at all."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.workflows.outputs import check_output

__all__ = ["check_copy", "num_rows", "on_disk", "put_columns", "put_pairs", "put_rows", "put_uns", "write_copy"]

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def check_copy(data: Path, out: Path, *, force: bool) -> None:
    """Make sure that a copy can be written, before any work is done for it.

    Raises
    ------
    DataError
        As of :func:`~scmodelforge.workflows.outputs.check_output`; if there is no such file, or the copy would be
        written over it.
    """
    if not data.exists():
        msg = f"no file '{data}'; correct the path."
        raise DataError(msg)
    check_output(out, force=force)
    if out.exists() and out.samefile(data):
        msg = f"{out} is the input itself; choose another name for the output."
        raise DataError(msg)


def write_copy(data: Path, out: Path, change: Callable[[Any], None]) -> None:
    """Copy an .h5ad file, change the copy, and give it its name.

    Parameters
    ----------
    data, out
        The file and the copy.
    change
        Gets the copy, opened by h5py for reading and writing.

    Raises
    ------
    DataError
        If the disk is full, or either file cannot be read or written. Nothing of the copy stays then.
    """
    import h5py

    temporary = out.with_name(out.name + ".writing")
    try:
        with on_disk(out):
            shutil.copyfile(data, temporary)
            with h5py.File(temporary, "r+") as file:
                change(file)
            temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def on_disk(out: Path, *, kept: str = "") -> Iterator[None]:
    """Turn what a disk refuses into one line.

    Parameters
    ----------
    out
        The file that is being written.
    kept
        What the line says of what was done so far.
    """
    try:
        yield
    except OSError as problem:
        # HDF5 gives the number in words only
        is_full = problem.errno in _NO_SPACE or any(f"errno = {number}," in str(problem) for number in _NO_SPACE)
        if is_full:
            msg = f"the disk of {out.resolve().parent} is full; make room, and repeat the command.{kept}"
        else:
            reason = problem.strerror or " ".join(str(problem).split())
            msg = f"{out} cannot be written: {reason}; mend that, and repeat the command.{kept}"
        raise DataError(msg) from problem


def put_rows(file: Any, key: str, parts: Iterator[np.ndarray], shape: tuple[int, int]) -> None:
    """Write ``obsm[key]``, float32, a part of its rows at a time; one that is there is replaced.

    Parameters
    ----------
    file
        The open file.
    key
        Name of the array.
    parts
        Its rows in order, in parts of any size.
    shape
        Rows and columns.
    """
    group = file["obsm"] if "obsm" in file else _new_group(file, "obsm")
    if key in group:
        del group[key]
    array = group.create_dataset(key, shape=shape, dtype=np.float32)
    array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    start = 0
    for part in parts:
        array[start : start + len(part)] = part
        start += len(part)


def put_pairs(file: Any, key: str, matrix: np.ndarray) -> None:
    """Write ``obsp[key]``, shape (cells, cells), float32; one that is there is replaced."""
    from anndata.io import write_elem

    write_elem(file["obsp"] if "obsp" in file else _new_group(file, "obsp"), key, matrix.astype(np.float32))


def num_rows(file: Any, table: str) -> int:
    """Return the rows of ``obs`` or ``var``."""
    return len(file[table][file[table].attrs["_index"]])


def put_columns(file: Any, table: str, columns: Mapping[str, Any]) -> None:
    """Write columns of ``obs`` or ``var``; those that are there are replaced, new ones come last."""
    from anndata.io import write_elem

    obs = file[table]
    order = [str(name) for name in obs.attrs.get("column-order", ())]
    for name, values in columns.items():
        if name in obs:
            del obs[name]
        write_elem(obs, name, values)
    names = [*order, *(name for name in columns if name not in order)]
    obs.attrs["column-order"] = np.array(names, dtype=object)


def put_uns(file: Any, key: str, facts: Mapping[str, Any]) -> None:
    """Write ``uns[key]``; what is there is replaced."""
    from anndata.io import write_elem

    if "uns" not in file:
        _new_group(file, "uns")
    write_elem(file["uns"], key, dict(facts))


def _new_group(file: Any, name: str) -> Any:
    from anndata.io import write_elem

    write_elem(file, name, {})
    return file[name]
