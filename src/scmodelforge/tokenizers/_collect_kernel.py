"""Collecting the expressed genes of cells on sparse rows, compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scmodelforge.data._compile import compiled, inner
from scmodelforge.data.types import CellBlock

__all__ = ["Collected", "collect_cells"]

#: A de Bruijn number: no two of its windows of 6 bits are equal.
_WINDOWS = np.uint64(0x03F79D71B4CB0A89)


class Collected(NamedTuple):
    """Genes of some cells.

    Attributes
    ----------
    offsets
        Start of each cell's, shape (n + 1,), int64.
    ids, values
        Token and expression of each, tokens ascending within each cell, shape (E,), int32 and float32.
    """

    offsets: np.ndarray
    ids: np.ndarray
    values: np.ndarray


def collect_cells(block: CellBlock, tokens_of_columns: np.ndarray) -> Collected | None:
    """Return the expressed genes of each cell that have a token.

    Parameters
    ----------
    block
        The cells.
    tokens_of_columns
        Token of each column, shape (G,), int32, -1 where it has none; no token twice.

    Returns
    -------
    The genes, or ``None`` where the numpy form is needed: for few values, without numba, if columns do not ascend, or
    of values that are not in single precision.
    """
    known = tokens_of_columns[tokens_of_columns >= 0]
    collect = _collect(len(block.data))
    if collect is None or block.data.dtype != np.float32:
        return None
    size = 0 if (known[1:] > known[:-1]).all() else int(known.max()) + 1
    offsets = np.zeros(len(block) + 1, dtype=np.int64)
    ids, values = np.empty(len(block.data) + 1, np.int32), np.empty(len(block.data) + 1, np.float32)
    if not collect(block.data, block.indices, block.indptr, tokens_of_columns, size, offsets, ids, values):
        return None
    return Collected(offsets, ids[: offsets[-1]], values[: offsets[-1]])


@compiled
def _collect(data, indices, indptr, tokens, size, offsets, ids, values):
    marks, shown = np.zeros(size // 64 + 1, np.uint64), np.empty(size, np.float32)
    places = np.empty(64, np.int64)  # of the only bit of a word, by the word times a number with 64 different windows
    for bit in range(64):
        places[(_WINDOWS << np.uint64(bit)) >> np.uint64(58)] = bit
    at = np.uint64(0)
    for cell in range(len(indptr) - 1):
        last, ascends, first = np.int64(-1), True, at
        for n in range(indptr[cell], indptr[cell + 1]):
            column = np.uint32(indices[n])
            gene = tokens[column]
            ids[at], values[at] = gene, data[n]
            at += np.uint64((gene >= 0) & (data[n] > 0))  # written over unless it counts: no branch
            ascends &= np.int64(column) > last
            last = np.int64(column)
        if not ascends:
            return False
        offsets[cell + 1] = at
        if size:
            _sort(ids[first:at], values[first:at], marks, shown, places)
    return True


@inner
def _sort(ids, values, marks, shown, places):
    """Sort genes by token, each of which is there once: by a bit for every token there is."""
    for n in range(len(ids)):
        token = np.uint64(ids[n])
        marks[token >> np.uint64(6)] |= np.uint64(1) << (token & np.uint64(63))
        shown[token] = values[n]
    at = 0
    for word in range(len(marks)):
        left = marks[word]
        while left:
            lowest = left & (~left + np.uint64(1))
            token = word * 64 + places[(lowest * _WINDOWS) >> np.uint64(58)]
            ids[at], values[at] = token, shown[token]
            at += 1
            left ^= lowest
        marks[word] = 0
