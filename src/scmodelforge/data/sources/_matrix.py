"""Expression matrices of an AnnData file or store, read by rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

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
from scmodelforge.data.sources._numbers import as_float32, check_exact
from scmodelforge.data.sources._pool import OpenFile

__all__ = ["CsrMatrix", "DenseMatrix", "Rows", "Tables"]

#: Data, column and start of each row, as in a CellBlock.
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
#: Where the values and the columns of a matrix lie in its file.
Tables = tuple[ChunkTable, ChunkTable]

#: Values of a dense matrix that are in memory at a time.
_DENSE_AT_ONCE = 1 << 22


class _TooLargeError(Exception):
    """Values that 16 bits do not hold."""


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
        return as_float32(data, self.label), indices.astype(np.int32, copy=False), indptr

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
            check_exact(values, self.label)
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
        if (indices.dtype.kind != "u" and indices.min() < 0) or indices.max() >= self.shape[1]:
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
            values = as_float32(found, self.label)
            rows, columns = np.nonzero(values)
            data.append(values[rows, columns])
            indices.append(columns.astype(np.int32))
            lengths.append(np.bincount(rows, minlength=len(values)))
        indptr = np.cumsum(np.concatenate(lengths), dtype=np.int64)
        return np.concatenate(data), np.concatenate(indices), indptr
