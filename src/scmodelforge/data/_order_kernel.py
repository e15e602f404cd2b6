"""Sums over the genes of a cell that depend on the order of its values, not on the values: compiled or in numpy."""

from __future__ import annotations

import numpy as np

from scmodelforge.data._compile import compiled

__all__ = ["NUM_LEVELS", "sum_ordered"]

#: The smallest values of a cell that are told apart, and one for all that are larger.
NUM_LEVELS = 17


def sum_ordered(
    data: np.ndarray,
    columns: np.ndarray,
    indptr: np.ndarray,
    genes: np.ndarray,
    factors: np.ndarray,
    sums: np.ndarray,
) -> np.ndarray:
    """Add up the numbers of the genes that each cell expresses, each times the factor of its value's place.

    Parameters
    ----------
    data, columns, indptr
        Cells as CSR of n rows and P columns. Only positive values count.
    genes
        Number of each column's gene, shape (P,), uint64; 0 for columns that do not count.
    factors
        Of the genes with the cell's smallest value, with the second smallest, and so on, and with a larger one than all
        these, shape (17,), uint64.
    sums
        Gets the sums modulo 2^64, shape (n,), uint64.

    Returns
    -------
    How many values of each cell count, shape (n,), int64.
    """
    lengths = np.zeros(len(indptr) - 1, dtype=np.int64)
    kernel = _sum_ordered(len(data))
    if kernel is not None:
        kernel(data, columns, indptr, genes, factors, sums, lengths)
        return lengths
    is_used = (genes[columns] != 0) & (data > 0)
    numbers, left = genes[columns[is_used]], data[is_used].astype(np.float64)
    ends = np.concatenate([[0], np.cumsum(is_used)])[indptr]
    lengths[:] = np.diff(ends)
    rows = np.flatnonzero(lengths)
    sums[:] = 0
    if not len(rows):
        return lengths
    weights = np.full(len(numbers), factors[-1])
    for factor in factors[:-1]:
        smallest = np.minimum.reduceat(left, ends[:-1][rows])
        is_smallest = left == np.repeat(smallest, lengths[rows])
        is_smallest &= left < np.inf
        if not is_smallest.any():
            break
        weights[is_smallest] = factor
        left[is_smallest] = np.inf
    sums[rows] = np.add.reduceat(numbers * weights, ends[:-1][rows])
    return lengths


@compiled
def _sum_ordered(data, columns, indptr, genes, factors, sums, lengths):
    most = len(factors) - 1
    smallest = np.empty(most)
    place_of = np.empty(256, dtype=np.int64)
    for row in range(len(indptr) - 1):
        begin, end = indptr[row], indptr[row + 1]
        # Counts are mostly small: their places are looked up. What is no count, or large, is compared.
        place_of[:] = 0
        number, has_fractions, has_large = 0, False, False
        for at in range(begin, end):
            value = data[at]
            if value <= 0 or genes[columns[at]] == 0:
                continue
            number += 1
            if value >= 256:
                has_large = True
            else:
                whole = int(value)
                place_of[whole] = 1
                has_fractions |= value != whole
        lengths[row] = number
        kept = 0
        for value in range(1, 256):
            if place_of[value]:
                place_of[value] = min(kept, most)
                kept += 1
        total = np.uint64(0)
        if not has_fractions and (kept >= most or not has_large):
            for at in range(begin, end):
                value, gene = data[at], genes[columns[at]]
                if value > 0 and gene != 0:
                    total += gene * factors[place_of[int(value)] if value < 256 else most]
            sums[row] = total
            continue
        kept = 0
        for at in range(begin, end):
            value = data[at]
            if value <= 0 or genes[columns[at]] == 0 or (kept == most and value > smallest[most - 1]):
                continue
            place = 0
            while place < kept and smallest[place] < value:
                place += 1
            if place < kept and smallest[place] == value:
                continue
            if kept < most:
                kept += 1
            for other in range(kept - 1, place, -1):
                smallest[other] = smallest[other - 1]
            smallest[place] = value
        for at in range(begin, end):
            value, gene = data[at], genes[columns[at]]
            if value <= 0 or gene == 0:
                continue
            place = 0
            while place < kept and smallest[place] < value:
                place += 1
            total += gene * factors[place if place < kept else most]
        sums[row] = total
