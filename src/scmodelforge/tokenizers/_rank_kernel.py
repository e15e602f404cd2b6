"""Ranking the genes of cells on sparse rows, compiled: the tokens of the numpy form, many times faster."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scmodelforge.data._kernels import compiled
from scmodelforge.data.types import CellBlock

__all__ = ["Ranked", "rank_cells"]

#: Bits of a sorted number have room for tokens and entries of a cell below these.
_MOST_TOKENS, _MOST_ENTRIES = 1 << 17, 1 << 15
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
    The tokens, or ``None`` where the numpy form is needed: for few values, without numba, if columns do not ascend, or
    with more than 131,072 tokens or 32,768 genes in a cell.
    """
    counts, fill = _counts(len(block.data)), _fill(len(block.data))
    if counts is None or fill is None:
        return None
    arguments = block.data, block.indices, block.indptr, tokens_of_columns
    known = counts(*arguments)
    most = int(known.max(initial=0))
    if len(known) < len(block) or most > _MOST_ENTRIES or len(medians) > _MOST_TOKENS:
        return None
    kept = np.minimum(known, room)
    offsets = np.concatenate([[0], np.cumsum(kept + len(first))])
    cut_offsets = np.concatenate([[0], np.cumsum(known - kept)])
    ids, values = np.empty(offsets[-1], dtype=np.int32), np.empty(offsets[-1], dtype=np.float32)
    cut_ids = np.empty(cut_offsets[-1], dtype=np.int32)
    tokens = tokens_of_columns[tokens_of_columns >= 0]
    rises = bool((tokens[1:] > tokens[:-1]).all())
    start = first[0] if first else -1
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
    # What is sorted: 32 bits of the score in single precision, which of positive floats rise with it, inverted; below
    # them 17 bits of the token and 15 of the entry. Sorting is by digits of 11 bits, the lowest first, passes stable.
    items, other = np.empty(most, np.uint64), np.empty(most, np.uint64)
    narrow = np.empty(most, np.float32)
    bits = narrow.view(np.uint32)
    genes, scores, shown = np.empty(most, np.int32), np.empty(most, np.float64), np.empty(most, np.float32)
    digits, entries = np.uint64(2047), np.uint64(_MOST_ENTRIES - 1)
    places = np.empty((5, 2048), np.int32)
    shifts = np.array([15, 26, 32, 43, 54], np.uint64)
    known, of_cell = np.empty(_FEW, np.float32), np.full(_FEW, -1, np.int64)
    for cell in range(len(indptr) - 1):
        total, number = 0.0, 0
        for at in range(indptr[cell], indptr[cell + 1]):
            value = data[at]
            total += value
            gene = tokens[indices[at]]
            if gene >= 0 and value > 0:
                score = value / medians[gene]
                genes[number], scores[number], shown[number], narrow[number] = gene, score, value, score
                number += 1
        for n in range(number):
            score_bits = np.uint64(~bits[n] & np.uint32(0xFFFFFFFF)) << np.uint64(32)
            items[n] = score_bits | (np.uint64(genes[n]) << np.uint64(15)) | np.uint64(n)
        places[:] = 0
        for n in range(number):  # all counts in one loop: those of one digit would wait for each other
            item = items[n]
            places[2, (item >> np.uint64(32)) & digits] += 1
            places[3, (item >> np.uint64(43)) & digits] += 1
            places[4, (item >> np.uint64(54)) & digits] += 1
            if not rises:
                places[0, (item >> np.uint64(15)) & digits] += 1
                places[1, (item >> np.uint64(26)) & np.uint64(63)] += 1
        for digit in range(2 if rises else 0, 5):  # tokens that ascend with the columns are in order already
            shift, place = shifts[digit], places[digit]
            wanted = np.uint64(63) if digit == 1 else digits
            if number and place[(items[0] >> shift) & wanted] == number:
                continue  # all are in one bucket
            taken = 0
            for bucket in range(2048):
                here = place[bucket]
                place[bucket] = taken
                taken += here
            for n in range(number):
                item = items[n]
                slot = (item >> shift) & wanted
                other[place[slot]] = item
                place[slot] += 1
            items, other = other, items
        # Scores that are one in single precision and two in double.
        before = scores[items[0] & entries] if number else 0.0
        for n in range(1, number):
            score = scores[items[n] & entries]
            if score <= before:
                before = score
                continue
            item, back = items[n], n
            while back > 0 and scores[items[back - 1] & entries] < score:
                items[back] = items[back - 1]
                back -= 1
            items[back] = item
        at = offsets[cell]
        if start >= 0:
            ids[at], values[at] = start, 0.0
            at += 1
        for n in range(min(number, room)):
            entry = items[n] & entries
            ids[at] = genes[entry]
            value = np.float64(shown[entry])
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
            cut_ids[at] = genes[items[n] & entries]
            at += 1
