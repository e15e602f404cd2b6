"""Data sets by name: what is known of each, and its file on this machine."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from scmodelforge._errors import DataError, nearest
from scmodelforge.datasets.entries import DATASETS, DatasetInfo
from scmodelforge.datasets.store import kept_file

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["info", "list_datasets", "load", "path"]


def list_datasets() -> list[str]:
    """Return the names of all data sets, sorted."""
    return sorted(DATASETS)


def info(name: str) -> DatasetInfo:
    """Return what is known of a data set.

    Raises
    ------
    DataError
        If there is none of this name; the message lists the names there are.
    """
    if name not in DATASETS:
        known = list_datasets()
        msg = f"unknown data set '{name}'.{nearest(name, known)} Available: {', '.join(known)}."
        raise DataError(msg)
    return DATASETS[name]


def path(name: str) -> Path:
    """Return the path of a data set's ``.h5ad`` file, which was checked against its sha256.

    A file that was fetched is read whole for this once, and again only if its size or time of change differ.

    Raises
    ------
    DataError
        If there is no such data set, or its file is not on this machine, damaged or another one than before.
    """
    data = info(name)
    if not data.is_shipped:
        return kept_file(data)
    found = Path(str(files("scmodelforge.datasets").joinpath("files", f"{name}.h5ad")))
    assert data.sha256 is not None
    verify(found, data.sha256)
    return found


def load(name: str) -> AnnData:
    """Read a whole data set into memory; large ones are better named as ``dataset://NAME`` in ``data.paths``.

    Raises
    ------
    DataError
        As :func:`path`.
    """
    file = path(name)
    import anndata

    return anndata.read_h5ad(file)


@cache
def verify(file: Path, sha256: str) -> None:
    """Raise a :class:`DataError` unless the file has this sha256; what passed once is not read again."""
    if not file.is_file():
        msg = f"{file}: the data set's file is missing; install scmodelforge again."
        raise DataError(msg)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != sha256:
        msg = f"{file} is damaged: its sha256 is {found[:12]}..., not {sha256[:12]}...; install scmodelforge again."
        raise DataError(msg)
