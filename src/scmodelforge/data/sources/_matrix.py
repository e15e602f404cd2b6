"""Expression matrices of an AnnData file or store, read by rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import h5py
import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data._kernels import fit_in_16_bits
from scmodelforge.data.sources._chunks import (
    MISSING,
    ChunkTable,
    OpenBytes,
    UnreadableError,
    copy_from_chunks,
)
from scmodelforge.data.sources._pool import OpenFile

__all__ = ["ColumnsError", "CsrMatrix", "DenseMatrix", "Rows", "Tables", "open_matrix"]

#: Data, column and start of each row, as in a CellBlock.
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
#: Where the values and the columns of a matrix lie in its file.
Tables = tuple[ChunkTable, ChunkTable]

#: Values of a dense matrix that are in memory at a time.
_DENSE_AT_ONCE = 1 << 22
#: float32 holds every whole number up to here.
_LARGEST_WHOLE = 1 << 24
_FILTERS = {32001: "Blosc", 32004: "LZ4", 32008: "bitshuffle", 32015: "Zstandard", 32026: "Blosc2"}


class _TooLargeError(Exception):
    """Values that 16 bits do not hold."""


class ColumnsError(DataError):
    """A matrix that is stored by columns."""


@dataclass(frozen=True, slots=True)
class CsrMatrix:
    """A matrix stored by sparse rows.

    Attributes
    ----------
    where
        Its place in the file.
    label
        What messages call it.
    shape
        Cells and genes.
    indptr
        Start of each row, shape (cells + 1,), int64.
    """

    where: str
    label: str
    shape: tuple[int, int]
    indptr: np.ndarray

    @property
    def nnz(self) -> int | None:
        """Number of stored values."""
        return int(self.indptr[-1])

    def read(self, file: Mapping[str, Any] | Any, start: int, stop: int) -> Rows:
        """Return some rows; of ``file`` nothing but their values and columns is read."""
        first, last = int(self.indptr[start]), int(self.indptr[stop])
        indptr = self.indptr[start : stop + 1] - first
        if first == last:
            return np.zeros(0, np.float32), np.zeros(0, np.int32), indptr
        try:
            data, indices = (file[f"{self.where}/{name}"][first:last] for name in ("data", "indices"))
        except UnreadableError as error:
            raise self._name_rows(error) from error
        self._check_columns(indices, span=(start, stop))
        return _as_float32(data, self.label), indices.astype(np.int32, copy=False), indptr

    def tables(self, file: OpenFile) -> Tables | None:
        """Return where values and columns lie in the file, or ``None`` if only its library should read it.

        Raises
        ------
        DataError
            If a part of them is lost; it names the rows.
        """
        try:
            found = [file.table(f"{self.where}/{name}", f"{self.label}/{name}") for name in ("data", "indices")]
            for table in found:
                if table is not None and (table.offsets == MISSING).any():
                    raise table.lost(int(np.flatnonzero(table.offsets == MISSING)[0]))
        except UnreadableError as error:
            raise self._name_rows(error) from error
        data, indices = found
        return None if data is None or indices is None else (data, indices)

    def gather(self, open_bytes: OpenBytes, tables: Tables, rows: np.ndarray, *, at_once: bool = False) -> Rows:
        """Return some rows, each once, in any order; safe in any number of threads.

        Parameters
        ----------
        open_bytes
            What opens the files of the tables.
        tables
            What :meth:`tables` gave.
        rows
            Row numbers, shape (n,), int64.
        at_once
            Whether values and columns are asked for at the same time, since each waits for a server.

        Raises
        ------
        DataError
            If they cannot be read; it names the rows.
        """
        lengths = self.indptr[rows + 1] - self.indptr[rows]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        data, columns = np.empty(indptr[-1], dtype=np.float32), np.empty(indptr[-1], dtype=np.int32)
        self.gather_into(open_bytes, tables, rows, data, columns, at_once=at_once)
        return data, columns, indptr

    def gather_into(
        self,
        open_bytes: OpenBytes,
        tables: Tables,
        rows: np.ndarray,
        data: np.ndarray,
        columns: np.ndarray,
        *,
        at_once: bool = False,
    ) -> bool:
        """Write values and columns of some rows, each once, into arrays, one row after another in the order given.

        Parameters
        ----------
        open_bytes, tables, rows, at_once
            As of :meth:`gather`.
        data
            Gets the values, float32 or uint16.
        columns
            Gets the columns; its type must hold them.

        Returns
        -------
        Whether all values are the same in the type of ``data``; if not, what it got is of no use.
        """
        if not len(data):
            return True
        order = np.argsort(rows)
        span = int(rows[order[0]]), int(rows[order[-1]]) + 1
        lengths = self.indptr[rows + 1] - self.indptr[rows]
        runs = self.indptr[rows[order]], lengths[order], (np.cumsum(lengths) - lengths)[order]

        def check_data(values: np.ndarray) -> None:
            if _is_inexact(values.dtype):
                _check_exact(values, self.label)
            if data.dtype == np.uint16 and not fit_in_16_bits(values):
                raise _TooLargeError

        def copy(table: ChunkTable, out: np.ndarray, check: Callable[[np.ndarray], None]) -> None:
            with np.errstate(over="ignore"):  # becomes infinite, which the scan reports with cell and gene
                copy_from_chunks(open_bytes, table, *runs, out, check=check)

        parts = (tables[0], data, check_data), (tables[1], columns, partial(self._check_columns, span=span))
        try:
            if at_once:
                with ThreadPoolExecutor(len(parts)) as pool:
                    for copied in [pool.submit(copy, *part) for part in parts]:
                        copied.result()
            else:
                for part in parts:
                    copy(*part)
        except UnreadableError as error:
            raise self._name_rows(error) from error
        except _TooLargeError:
            return False
        return True

    def _name_rows(self, error: UnreadableError) -> DataError:
        first, last = np.searchsorted(self.indptr, [error.first, error.last], side="right") - 1
        return DataError(f"{error} It concerns rows {first:,} to {last:,}.")

    def _check_columns(self, indices: np.ndarray, *, span: tuple[int, int]) -> None:
        if indices.min() < 0 or indices.max() >= self.shape[1]:
            msg = (
                f"{self.label} has column numbers outside 0 to {self.shape[1] - 1:,} in rows {span[0]:,} to "
                f"{span[1] - 1:,}; the file is damaged, write it again."
            )
            raise DataError(msg)


@dataclass(frozen=True, slots=True)
class DenseMatrix:
    """A matrix with every value stored. Attributes are those of :class:`CsrMatrix`."""

    where: str
    label: str
    shape: tuple[int, int]

    @property
    def nnz(self) -> int | None:
        """Unknown before everything is read."""
        return None

    def read(self, file: Mapping[str, Any] | Any, start: int, stop: int) -> Rows:
        """Return some rows without their zeros; of ``file`` nothing but these rows is read, in parts if many."""
        at_once = max(1, _DENSE_AT_ONCE // max(1, self.shape[1]))
        data, indices = [np.zeros(0, np.float32)], [np.zeros(0, np.int32)]
        lengths = [np.zeros(1, np.int64)]
        for first in range(start, stop, at_once):
            try:
                found = file[self.where][first : min(first + at_once, stop)]
            except UnreadableError as error:
                msg = f"{error} It concerns rows {error.first:,} to {error.last:,}."
                raise DataError(msg) from error
            values = _as_float32(found, self.label)
            rows, columns = np.nonzero(values)
            data.append(values[rows, columns])
            indices.append(columns.astype(np.int32))
            lengths.append(np.bincount(rows, minlength=len(values)))
        indptr = np.cumsum(np.concatenate(lengths), dtype=np.int64)
        return np.concatenate(data), np.concatenate(indices), indptr


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
    _check_values(item["indices"], label)
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


def _check_values(values: Any, label: str) -> None:
    if values.dtype.kind not in "biuf":
        msg = f"{label} holds {values.dtype}; numbers are needed."
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


def _is_inexact(dtype: np.dtype[Any]) -> bool:
    """Tell whether a type has whole numbers that float32 does not."""
    return dtype.kind in "iu" and not np.can_cast(dtype, np.float32)


def _check_exact(values: np.ndarray, label: str) -> None:
    if values.size and max(int(values.max()), -int(values.min())) > _LARGEST_WHOLE:
        worst = max(int(values.max()), int(values.min()), key=abs)
        msg = (
            f"{label} holds {worst:,}; whole numbers beyond {_LARGEST_WHOLE:,} are not exact as float32. "
            "Counts of a cell are smaller: check which matrix data.layer names."
        )
        raise DataError(msg)


def _as_float32(values: np.ndarray, label: str) -> np.ndarray:
    if _is_inexact(values.dtype):
        _check_exact(values, label)
    with np.errstate(over="ignore"):  # becomes infinite, which the scan reports with cell and gene
        return values.astype(np.float32, copy=False)
