"""Ranking the genes of cells on sparse rows, compiled: the tokens of the numpy form, many times faster."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scmodelforge.data._kernels import compiled
from scmodelforge.data.types import CellBlock

__all__ = ["Ranked", "rank_cells"]

#: Counts below this have their logarithm computed once a cell.
_FEW = 256


class Ranked(NamedTuple):
    """Tokens of some cells.

    Attributes
    ----------
    offsets
        Start of each cell's tokens, shape (n + 1,), int64.
    ids, values
        Shape (T,), int32 and float32.
    cut_offsets, cut_ids
        Tokens that had no room, likewise.
    """

    offsets: np.ndarray
    ids: np.ndarray
    values: np.ndarray
    cut_offsets: np.ndarray
    cut_ids: np.ndarray


def rank_cells(
    block: CellBlock, tokens_of_columns: np.ndarray, medians: np.ndarray, *, room: int, first: list[int], scale: float
) -> Ranked | None:
    """Rank the known genes of each cell by expression over median, the largest first, equal ones by token.

    Parameters
    ----------
    block
        The cells.
    tokens_of_columns
        Token of each column, shape (G,), int32, -1 where it has none; no token twice.
    medians
        What the expression of each token is divided by, shape (V,), float64.
    room
        Most genes of a cell.
    first
        Tokens before the genes, at most one.
    scale
        Values are log(1 + expression / the cell's total * scale).

    Returns
    -------
    The tokens, or ``None`` where the numpy form is needed: for few values, without numba, or if columns do not ascend.
    """
    counts, fill = _counts(len(block.data)), _fill(len(block.data))
    if counts is None or fill is None:
        return None
    arguments = block.data, block.indices, block.indptr, tokens_of_columns
    known = counts(*arguments)
    if len(known) < len(block):
        return None
    kept = np.minimum(known, room)
    offsets = np.concatenate([[0], np.cumsum(kept + len(first))])
    cut_offsets = np.concatenate([[0], np.cumsum(known - kept)])
    ids, values = np.empty(offsets[-1], dtype=np.int32), np.empty(offsets[-1], dtype=np.float32)
    cut_ids = np.empty(cut_offsets[-1], dtype=np.int32)
    tokens = tokens_of_columns[tokens_of_columns >= 0]
    rises = bool((tokens[1:] > tokens[:-1]).all())
    start = first[0] if first else -1
    most = int(known.max(initial=0))
    fill(*arguments, medians, room, start, scale, rises, most, offsets, ids, values, cut_offsets, cut_ids)
    return Ranked(offsets, ids, values, cut_offsets, cut_ids)


@compiled
def _counts(data, indices, indptr, tokens):
    """Return the number of expressed known genes of each cell, or nothing if columns do not ascend."""
    number = np.zeros(len(indptr) - 1, dtype=np.int64)
    for cell in range(len(number)):
        last = -1
        for at in range(indptr[cell], indptr[cell + 1]):
            column = indices[at]
            if column <= last:
                return number[:0]
            last = column
            if tokens[column] >= 0 and data[at] > 0:
                number[cell] += 1
    return number


@compiled
def _fill(
    data, indices, indptr, tokens, medians, room, start, scale, rises, most, offsets, ids, values, cut_offsets, cut_ids
):
    genes, scores, shown = np.empty(most, np.int32), np.empty(most, np.float64), np.empty(most, np.float64)
    narrow = np.empty(most, np.float32)
    keys = narrow.view(np.uint32)  # bits of positive floats rise with them
    order, other = np.empty(most, np.int32), np.empty(most, np.int32)
    places = np.empty(2048, np.int32)
    known, of_cell = np.empty(_FEW, np.float32), np.full(_FEW, -1, np.int64)
    for cell in range(len(indptr) - 1):
        total, number = 0.0, 0
        for at in range(indptr[cell], indptr[cell + 1]):
            value = np.float64(data[at])
            total += value
            gene = tokens[indices[at]]
            if gene >= 0 and value > 0:
                genes[number], shown[number] = gene, value
                score = value / medians[gene]
                scores[number], narrow[number] = score, np.float32(score)
                order[number] = number
                number += 1
        # Radix sort from the lowest digit, each pass stable: by token if columns do not give it, then by falling score.
        for digit in range(0 if rises else -2, 3):
            places[:] = 0
            shift = 11 * (digit + 2) if digit < 0 else 11 * digit
            for n in range(number):
                key = np.uint32(genes[n]) if digit < 0 else ~keys[n]
                places[(key >> np.uint32(shift)) & np.uint32(2047)] += 1
            before = 0
            for bucket in range(2048):
                here = places[bucket]
                places[bucket] = before
                before += here
            for n in range(number):
                entry = order[n]
                key = np.uint32(genes[entry]) if digit < 0 else ~keys[entry]
                bucket = (key >> np.uint32(shift)) & np.uint32(2047)
                other[places[bucket]] = entry
                places[bucket] += 1
            order, other = other, order
        # Scores that are one in single precision and two in double.
        for n in range(1, number):
            entry = order[n]
            back = n
            while back > 0 and keys[order[back - 1]] == keys[entry] and scores[order[back - 1]] < scores[entry]:
                order[back] = order[back - 1]
                back -= 1
            order[back] = entry
        at = offsets[cell]
        if start >= 0:
            ids[at], values[at] = start, 0.0
            at += 1
        for n in range(min(number, room)):
            entry = order[n]
            ids[at] = genes[entry]
            value = shown[entry]
            whole = np.int64(value) if value < _FEW else _FEW
            if whole < _FEW and whole == value:
                if of_cell[whole] != cell:
                    of_cell[whole], known[whole] = cell, np.float32(np.log1p(value / total * scale))
                values[at] = known[whole]
            else:
                values[at] = np.float32(np.log1p(value / total * scale))
            at += 1
        at = cut_offsets[cell]
        for n in range(room, number):
            cut_ids[at] = genes[order[n]]
            at += 1
