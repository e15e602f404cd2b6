"""Rows of a sparse SOMA array by the joinids of their cells, with bounded memory beside the result."""

from __future__ import annotations

from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.sources._matrix import Rows
from scmodelforge.data.sources._numbers import as_float32

__all__ = ["SomaMatrix"]

#: Cells of one request. More raise the peak of memory and save little: of what is asked for, TileDB reads whole tiles,
#: whether the cells between are wanted or not, so neither gaps nor the number of ranges cost much.
_ROWS_PER_READ = 1024


class SomaMatrix:
    """What reads rows of an X layer.

    Parameters
    ----------
    label
        What messages call it.
    gene_joinids
        The joinid of each gene of the panel, shape (G,), int64, ascending.
    """

    def __init__(self, label: str, gene_joinids: np.ndarray) -> None:
        self._label = label
        self._genes = gene_joinids
        self._is_identity = bool((gene_joinids == np.arange(len(gene_joinids))).all())

    def read(self, x: Any, joinids: np.ndarray) -> Rows:
        """Return some rows: values as float32, their columns in the panel as int32, ascending, and where each begins.

        Parameters
        ----------
        x
            The open array.
        joinids
            The cells, shape (n,), int64, ascending.

        Raises
        ------
        DataError
            If a value is stored twice, of a gene that var does not have, or a whole number that float32 does not hold.
        """
        parts = [
            self._read(x, joinids[start : start + _ROWS_PER_READ]) for start in range(0, len(joinids), _ROWS_PER_READ)
        ]
        if len(parts) == 1:
            return parts[0]
        lengths = np.concatenate([np.zeros(1, np.int64), *(np.diff(indptr) for _, _, indptr in parts)])
        data = np.concatenate([np.zeros(0, np.float32), *(data for data, _, _ in parts)])
        indices = np.concatenate([np.zeros(0, np.int32), *(indices for _, indices, _ in parts)])
        return data, indices, np.cumsum(lengths, dtype=np.int64)

    def _read(self, x: Any, joinids: np.ndarray) -> Rows:
        """Read with one request: block by block takes about twice the time."""
        import pyarrow
        from scipy.sparse import csr_matrix

        first, last = int(joinids[0]), int(joinids[-1])
        is_range = last - first + 1 == len(joinids)
        cells = slice(first, last) if is_range else pyarrow.array(joinids)
        # TileDB sorts far slower than what follows, so it is not asked for an order
        tables = [self._coordinates(table, joinids) for table in x.read((cells,)).tables() if len(table)]
        if not tables:
            return np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(len(joinids) + 1, np.int64)
        rows, columns, data = (np.concatenate(arrays) for arrays in zip(*tables, strict=True))
        # adds up values that are there twice, and orders the columns of each row
        matrix = csr_matrix((data, (rows, columns)), shape=(len(joinids), len(self._genes)))
        if matrix.nnz != len(data):
            msg = (
                f"{self._label} has {len(data) - matrix.nnz:,} values twice among the cells with soma_joinid {first:,} "
                f"to {last:,}; the store is damaged."
            )
            raise DataError(msg)
        return matrix.data, matrix.indices.astype(np.int32, copy=False), matrix.indptr.astype(np.int64)

    def _coordinates(self, table: Any, joinids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return row, column and value of what a table has."""
        cells, genes, values = (table.column(number).to_numpy() for number in range(3))
        heads = np.flatnonzero(np.diff(cells, prepend=cells[0] - 1))  # values of a cell lie together
        rows = np.searchsorted(joinids, cells[heads]).astype(np.int32)
        rows = np.repeat(rows, np.diff(heads, append=len(cells)))
        return rows, self._columns(genes), as_float32(values, self._label)

    def _columns(self, genes: np.ndarray) -> np.ndarray:
        columns = genes if self._is_identity else np.searchsorted(self._genes, genes)
        is_known = columns < len(self._genes)
        if not self._is_identity:
            is_known &= self._genes[np.minimum(columns, len(self._genes) - 1)] == genes
        if not is_known.all():
            gene = int(genes[~is_known][0])
            msg = f"{self._label} has values of the gene with soma_joinid {gene}, which var does not have."
            raise DataError(msg)
        return columns.astype(np.int32)
