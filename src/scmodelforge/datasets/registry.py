"""The data sets that ship with the package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from scmodelforge._errors import DataError, nearest

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["DatasetInfo", "info", "list_datasets", "load", "path"]


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What there is to know of a data set before it is read.

    Attributes
    ----------
    name
        The name it is asked for by.
    description
        One sentence on the cells.
    cells, genes
        Size of the expression matrix, which holds counts.
    label_column
        obs column with the cell types, or ``None``.
    batch_column
        obs column with the technical batch, or ``None``.
    licence
        Terms of the data.
    citation
        The publication to cite.
    sha256
        Checksum of the file.
    """

    name: str
    description: str
    cells: int
    genes: int
    label_column: str | None
    batch_column: str | None
    licence: str
    citation: str
    sha256: str


_DATASETS = {
    data.name: data
    for data in (
        DatasetInfo(
            name="pbmc68k_reduced",
            description="Blood cells (PBMC) of one healthy donor, 10 types labelled by comparison with sorted cells, "
            "765 genes; the subset of 10x Genomics' 68k PBMC that scanpy ships, as counts",
            cells=700,
            genes=765,
            label_column="bulk_labels",
            batch_column="channel",
            licence="CC BY 4.0 (data, 10x Genomics), BSD-3-Clause (subset and annotation, scanpy)",
            citation="Zheng et al. 2017, Nature Communications 8, 14049, doi:10.1038/ncomms14049",
            sha256="f7eefcc8763a917f2fcfd3a51e198e4dd2b0fa9e30ba4dea9a35405775233556",
        ),
    )
}


def list_datasets() -> list[str]:
    """Return the names of all data sets, sorted."""
    return sorted(_DATASETS)


def info(name: str) -> DatasetInfo:
    """Return what is known of a data set.

    Raises
    ------
    DataError
        If there is none of this name; the message lists the names there are.
    """
    if name not in _DATASETS:
        known = list_datasets()
        msg = f"unknown data set '{name}'.{nearest(name, known)} Available: {', '.join(known)}."
        raise DataError(msg)
    return _DATASETS[name]


def path(name: str) -> Path:
    """Return the path of a data set's ``.h5ad`` file, after a check of its sha256.

    Raises
    ------
    DataError
        If there is no such data set, or its file is missing or damaged.
    """
    data = info(name)
    found = Path(str(files("scmodelforge.datasets").joinpath("files", f"{name}.h5ad")))
    verify(found, data.sha256)
    return found


def load(name: str) -> AnnData:
    """Read a data set into memory, with counts in ``X`` and its origin in ``uns``.

    Raises
    ------
    DataError
        If there is no such data set, or its file is missing or damaged.
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
