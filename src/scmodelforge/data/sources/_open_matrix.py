"""Checking a matrix of an AnnData file or store before its rows are read."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import h5py
import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.sources._matrix import CsrMatrix, DenseMatrix
from scmodelforge.data.sources._pool import OpenFile

__all__ = ["ColumnsError", "open_matrix"]

_FILTERS = {32001: "Blosc", 32004: "LZ4", 32008: "bitshuffle", 32015: "Zstandard", 32026: "Blosc2"}


class ColumnsError(DataError):
    """A matrix that is stored by columns."""


def open_matrix(file: OpenFile, where: str, label: str, *, shape: tuple[int, int]) -> CsrMatrix | DenseMatrix:
    """Check a matrix of a file and return what reads its rows.

    Parameters
    ----------
    file
        The file.
    where
        The matrix's place in it.
    label
        What messages call it.
    shape
        Cells and genes, as the obs and var tables have them.

    Raises
    ------
    ColumnsError
        If it is stored by columns.
    DataError
        If it is of another kind, has no numbers, or does not fit the tables.
    """
    item = file.root[where]
    if hasattr(item, "shape"):
        _check_shape(item.shape, shape, label)
        _check_values(item, label)
        return DenseMatrix(where, label, shape)
    encoding = str(item.attrs.get("encoding-type", item.attrs.get("h5sparse_format", "a group of another kind")))
    if encoding.startswith("csc"):
        msg = (
            f"{label} is stored by columns (CSC), and cells are read by rows; convert it once with anndata: "
            "adata.X = adata.X.tocsr() (likewise for a layer), then adata.write_h5ad('rows.h5ad')."
        )
        raise ColumnsError(msg)
    if not encoding.startswith("csr"):
        msg = f"{label} is stored as {encoding}; a dense or a CSR matrix is needed."
        raise DataError(msg)
    _check_shape(tuple(item.attrs.get("shape", item.attrs.get("h5sparse_shape", shape))), shape, label)
    _check_values(item["data"], label)
    _check_values(item["indices"], f"{label}/indices", kinds="iu")
    indptr = item["indptr"][:].astype(np.int64)
    _check_indptr(indptr, len(item["data"]), len(item["indices"]), shape[0], label)
    return CsrMatrix(where, label, shape, indptr)


def _check_shape(found: tuple[int, ...], needed: tuple[int, int], label: str) -> None:
    if tuple(int(size) for size in found) != needed:
        size = " x ".join(f"{size:,}" for size in found)
        msg = (
            f"{label} has the shape {size}, but the file's tables have {needed[0]:,} cells and {needed[1]:,} genes; "
            "the file is damaged, write it again with anndata."
        )
        raise DataError(msg)


def _check_indptr(indptr: np.ndarray, num_data: int, num_indices: int, num_cells: int, label: str) -> None:
    problem = None
    if len(indptr) != num_cells + 1:
        problem = f"rows for {len(indptr) - 1:,} cells, but the obs table has {num_cells:,}"
    elif indptr[0] != 0 or (np.diff(indptr) < 0).any():
        problem = "row starts that do not ascend from 0"
    elif not indptr[-1] == num_data == num_indices:
        problem = f"{num_data:,} values and {num_indices:,} columns, but its rows need {indptr[-1]:,}"
    if problem:
        msg = f"{label} has {problem}; the file is damaged, write it again with anndata."
        raise DataError(msg)


def _check_values(values: Any, label: str, *, kinds: str = "biuf") -> None:
    if values.dtype.kind not in kinds:
        msg = f"{label} holds {values.dtype}; {'numbers' if 'f' in kinds else 'whole numbers'} are needed."
        raise DataError(msg)
    if isinstance(values, h5py.Dataset):
        _check_filters(values, label)


def _check_filters(values: h5py.Dataset, label: str) -> None:
    filters = values.id.get_create_plist()
    for number in range(filters.get_nfilters()):
        code = filters.get_filter(number)[0]
        if h5py.h5z.filter_avail(code):
            continue
        with suppress(ImportError):
            import hdf5plugin  # noqa: F401 - importing it makes its filters known to HDF5
        if not h5py.h5z.filter_avail(code):
            name = _FILTERS.get(code, f"HDF5 filter {code}")
            msg = f"{label} is compressed with {name}; install what reads it: pip install hdf5plugin"
            raise DataError(msg)
