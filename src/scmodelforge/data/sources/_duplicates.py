"""Genes that a sparse matrix has twice in one cell: their values are parts of a sum, as for SciPy."""

from __future__ import annotations

import numpy as np

from scmodelforge.data.sources._matrix import Rows

__all__ = ["has_duplicates", "summed"]

#: Places of cells and genes that are looked at, at a time.
_PLACES_AT_ONCE = 1 << 22


def has_duplicates(columns: np.ndarray, indptr: np.ndarray, num_columns: int) -> bool:
    """Tell whether a row has a column twice.

    Parameters
    ----------
    columns
        Column of each value, shape (nnz,).
    indptr
        Start of each row, shape (n + 1,).
    num_columns
        Number of columns.
    """
    steps = columns[1:] <= columns[:-1]
    starts = indptr[1:-1]
    steps[starts[(starts > 0) & (starts < len(columns))] - 1] = False  # from one row to the next
    if not steps.any():  # ascending, as nearly all files have them
        return False
    at_once = max(1, _PLACES_AT_ONCE // max(1, num_columns))
    for first in range(0, len(indptr) - 1, at_once):
        bounds = indptr[first : first + at_once + 1]
        lengths = np.diff(bounds)
        is_taken = np.zeros(len(lengths) * num_columns, dtype=bool)
        is_taken[np.repeat(np.arange(len(lengths)) * num_columns, lengths) + columns[bounds[0] : bounds[-1]]] = True
        if np.count_nonzero(is_taken) < bounds[-1] - bounds[0]:
            return True
    return False


def summed(rows: Rows, num_columns: int) -> Rows:
    """Return rows, whose values are float32, with each column once."""
    import scipy.sparse as sp

    data, columns, indptr = rows
    found = sp.csr_matrix((data.copy(), columns.copy(), indptr.copy()), shape=(len(indptr) - 1, num_columns))
    found.sum_duplicates()
    return found.data, found.indices.astype(np.int32, copy=False), found.indptr.astype(np.int64)
