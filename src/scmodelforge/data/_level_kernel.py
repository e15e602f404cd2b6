"""Which values of a cell are its smallest, its second smallest, or larger: sums over them, compiled or in numpy."""

from __future__ import annotations

import numpy as np

from scmodelforge.data._compile import compiled

__all__ = ["NUM_LEVELS", "sum_levels"]

NUM_LEVELS = 3


def sum_levels(
    data: np.ndarray,
    columns: np.ndarray,
    indptr: np.ndarray,
    is_known: np.ndarray,
    table: np.ndarray,
    sums: np.ndarray,
) -> np.ndarray:
    """Add up, for each cell, what a table has for its genes and the levels of their values.

    Parameters
    ----------
    data, columns, indptr
        Cells as CSR of n rows and P columns. Only positive values of known columns count.
    is_known
        Shape (P,), bool.
    table
        What is added of a gene whose value is the cell's smallest, second smallest, or larger, shape (P, 3), uint64.
    sums
        Gets the sums modulo 2^64, shape (n,), uint64.

    Returns
    -------
    How many values of each cell count, shape (n,), int64.
    """
    lengths = np.zeros(len(indptr) - 1, dtype=np.int64)
    kernel = _sum_levels(len(data))
    if kernel is not None:
        kernel(data, columns, indptr, is_known, table, sums, lengths)
        return lengths
    is_used = is_known[columns] & (data > 0)
    columns, values = columns[is_used], data[is_used]
    ends = np.concatenate([[0], np.cumsum(is_used)])[indptr]
    lengths[:] = np.diff(ends)
    rows = lengths > 0
    smallest = _reduced(np.minimum, values, ends, rows)
    is_larger = values > np.repeat(smallest, lengths)
    second = _reduced(np.minimum, np.where(is_larger, values, np.inf), ends, rows)
    levels = is_larger.astype(np.int64) + (values > np.repeat(second, lengths))
    sums[:] = _reduced(np.add, table[columns, levels], ends, rows)
    return lengths


def _reduced(how: np.ufunc, values: np.ndarray, ends: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Reduce the values of each row that has some; ``ends[i]`` to ``ends[i + 1]`` is row i."""
    found = np.zeros(len(ends) - 1, dtype=values.dtype)
    if rows.any():
        found[rows] = how.reduceat(values, ends[:-1][rows])
    return found


@compiled
def _sum_levels(data, columns, indptr, is_known, table, sums, lengths):
    for row in range(len(indptr) - 1):
        smallest, second, number = np.inf, np.inf, 0
        for at in range(indptr[row], indptr[row + 1]):
            value = data[at]
            if value > 0 and is_known[columns[at]]:
                number += 1
                if value < smallest:
                    second = smallest
                    smallest = value
                elif smallest < value < second:
                    second = value
        total = np.uint64(0)
        for at in range(indptr[row], indptr[row + 1]):
            value = data[at]
            column = columns[at]
            if value > 0 and is_known[column]:
                total += table[column, int(value > smallest) + int(value > second)]
        sums[row] = total
        lengths[row] = number
