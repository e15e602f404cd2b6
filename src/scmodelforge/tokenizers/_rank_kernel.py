"""Ranking the genes of cells on sparse rows, compiled: the tokens of the numpy form, many times faster."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scmodelforge.data._compile import compiled, inner, inner_sum
from scmodelforge.data.types import CellBlock

__all__ = ["RankColumns", "Ranked", "rank_cells"]

#: Bits of a digit of the numbers that are sorted, two digits a number.
_BITS = 10
_BUCKETS = 1 << _BITS
#: Counts below this have their logarithm computed once a cell.
_FEW = 32


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


class RankColumns(NamedTuple):
    """What is known of the columns of a panel.

    Attributes
    ----------
    tokens
        Token of each column, shape (G,), int32, -1 where it has none; no token twice.
    divisors
        What the expression of each column is divided by, shape (G,), float64.
    rises
        Whether tokens rise with the columns.
    """

    tokens: np.ndarray
    divisors: np.ndarray
    rises: bool

    @classmethod
    def of(cls, tokens_of_columns: np.ndarray, medians: np.ndarray) -> RankColumns:
        """Return it for the token of each column and the divisor of each token."""
        known = tokens_of_columns[tokens_of_columns >= 0]
        # the last token's divisor where a column has none, which is not used
        return cls(tokens_of_columns, medians[tokens_of_columns], bool((known[1:] > known[:-1]).all()))


def rank_cells(block: CellBlock, columns: RankColumns, *, room: int, first: list[int], scale: float) -> Ranked | None:
    """Rank the known genes of each cell by expression over median, the largest first, equal ones by token.

    Parameters
    ----------
    block
        The cells.
    columns
        Tokens and divisors.
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
    fill = _fill(len(block.data))
    if fill is None:
        return None
    lengths = np.diff(block.indptr)
    most = int(lengths.max(initial=0))
    size, num_cut = int(np.minimum(lengths, room).sum()), int(np.maximum(lengths - room, 0).sum())
    ids, values = (np.empty(size + len(block) * len(first), dtype=dtype) for dtype in (np.int32, np.float32))
    cut_ids = np.empty(num_cut, dtype=np.int32)
    offsets, cut_offsets = np.zeros((2, len(block) + 1), dtype=np.int64)
    given = block.data, block.indices, block.indptr, *columns
    start = first[0] if first else -1
    if not fill(*given, room, start, scale, most, offsets, ids, values, cut_offsets, cut_ids):
        return None
    return Ranked(offsets, ids[: offsets[-1]], values[: offsets[-1]], cut_offsets, cut_ids[: cut_offsets[-1]])


@compiled
def _fill(
    data, indices, indptr, tokens, divisors, rises, room, start, scale, most, offsets, ids, values, cut_offsets, cut_ids
):
    genes, shown, below = np.empty(most + 1, np.int32), np.empty(most + 1, np.float32), np.empty(most + 1, np.float64)
    scores, narrow = np.empty(most + 1, np.float64), np.empty(most + 1, np.float32)
    items, other = np.empty(most, np.uint64), np.empty(most, np.uint64)
    low, high = np.empty(_BUCKETS, np.uint32), np.empty(_BUCKETS, np.uint32)
    known = np.empty(_FEW, np.float32)
    for cell in range(len(indptr) - 1):
        begin, end = indptr[cell], indptr[cell + 1]
        number = _collect(data[begin:end], indices[begin:end], tokens, divisors, genes, shown, below)
        if number < 0:
            return False
        _divide(shown, below, scores, narrow, number)
        for n in range(number):
            items[n] = np.uint64(n)
        _sort_by_score(narrow.view(np.uint32), items, other, number, low, high)
        if not rises and _num_alike(items, number) > number // 8:
            _sort_by_gene(genes, items, other, number, low)
            _sort_by_score(narrow.view(np.uint32), items, other, number, low, high)
        _mend(scores, genes, items, number)
        kept, at, cut_at = min(number, room), offsets[cell], cut_offsets[cell]
        if start >= 0:
            ids[at], values[at] = start, 0.0
            at += 1
        for n in range(kept):
            ids[at + n] = genes[np.uint32(items[n])]
        _show(shown, items, kept, _total(data[begin:end]), scale, known, values[at : at + kept])
        for n in range(kept, number):
            cut_ids[cut_at + n - kept] = genes[np.uint32(items[n])]
        offsets[cell + 1], cut_offsets[cell + 1] = at + kept, cut_at + number - kept
    return True


@inner
def _collect(data, indices, tokens, divisors, genes, shown, below):
    """Collect the expressed known genes of a cell; return how many, or -1 if columns do not ascend."""
    number, last, ascends = np.uint64(0), np.int64(-1), True
    for n in range(len(data)):
        column = np.uint32(indices[n])
        gene = tokens[column]
        genes[number], shown[number], below[number] = gene, data[n], divisors[column]
        number += np.uint64((gene >= 0) & (data[n] > 0))  # written over unless it counts: no branch
        ascends &= np.int64(column) > last
        last = np.int64(column)
    return np.int64(number) if ascends else np.int64(-1)


@inner
def _divide(shown, below, scores, narrow, number):
    for n in range(number):
        score = np.float64(shown[n]) / below[n]
        scores[n] = score
        narrow[n] = score


@inner
def _sort_by_gene(genes, items, other, number, low):
    """Sort entries by token, in stable passes by 10 bits."""
    largest = 0
    for n in range(number):
        items[n] = np.uint64(n)
        largest = max(largest, genes[n])
    shift = np.uint32(0)
    while shift == 0 or largest >> shift:
        low[:] = 0
        for n in range(number):
            low[(np.uint32(genes[n]) >> shift) & np.uint32(_BUCKETS - 1)] += np.uint32(1)
        _sum_up(low)
        for n in range(number):
            digit = (np.uint32(genes[np.uint32(items[n])]) >> shift) & np.uint32(_BUCKETS - 1)
            other[low[digit]] = items[n]
            low[digit] += np.uint32(1)
        items[:number] = other[:number]
        shift += np.uint32(_BITS)


@inner
def _sort_by_score(bits, items, other, number, low, high):
    """Sort entries by the 20 leading bits that tell scores apart, the largest first, in two stable passes.

    The bits of positive floats rise with them. Above the entry, ``items`` get what they were sorted by.
    """
    least, largest = np.uint32(0xFFFFFFFF), np.uint32(0)
    for n in range(number):
        least, largest = min(least, bits[n]), max(largest, bits[n])
    shift = np.uint32(0)
    while number and (largest - least) >> shift >= _BUCKETS * _BUCKETS:
        shift += np.uint32(1)
    low[:], high[:] = 0, 0
    for n in range(number):
        entry = items[n]
        key = np.uint32(np.uint32(largest - bits[np.uint32(entry)]) >> shift)
        items[n] = (np.uint64(key) << np.uint64(32)) | entry
        low[key & np.uint32(_BUCKETS - 1)] += np.uint32(1)
        high[key >> np.uint32(_BITS)] += np.uint32(1)
    _sum_up(low)
    _sum_up(high)
    for n in range(number):
        digit = np.uint32(items[n] >> np.uint64(32)) & np.uint32(_BUCKETS - 1)
        other[low[digit]] = items[n]
        low[digit] += np.uint32(1)
    for n in range(number):
        digit = np.uint32(other[n] >> np.uint64(32 + _BITS))
        items[high[digit]] = other[n]
        high[digit] += np.uint32(1)


@inner
def _sum_up(counts):
    """Replace counts by where each bucket begins."""
    taken = np.uint32(0)
    for bucket in range(_BUCKETS):
        here = counts[bucket]
        counts[bucket] = taken
        taken += here


@inner
def _num_alike(items, number):
    """Return how many entries have the leading bits of the one before."""
    alike = 0
    for n in range(1, number):
        alike += items[n] >> np.uint64(32) == items[n - 1] >> np.uint64(32)
    return alike


@inner
def _mend(scores, genes, items, number):
    """Order entries with the same leading bits: the larger score first, equal ones by token."""
    half = np.uint64(32)
    for n in range(1, number):
        if items[n] >> half != items[n - 1] >> half:
            continue
        item, back = items[n], n
        score, gene = scores[np.uint32(item)], genes[np.uint32(item)]
        while back > 0 and items[back - 1] >> half == item >> half:
            before = np.uint32(items[back - 1])
            if scores[before] > score or (scores[before] == score and genes[before] < gene):
                break
            items[back] = items[back - 1]
            back -= 1
        items[back] = item


@inner_sum
def _total(values):
    total = 0.0
    for n in range(len(values)):
        total += np.float64(values[n])
    return total


@inner
def _show(shown, items, kept, total, scale, known, values):
    """Write log(1 + expression / total * scale) of the first entries."""
    for count in range(_FEW):
        known[count] = np.log1p(count / total * scale)
    for n in range(kept):
        value = shown[np.uint32(items[n])]
        whole = np.uint32(np.int32(value)) if value < np.float32(_FEW) else np.uint32(_FEW)
        if whole < np.uint32(_FEW) and np.float32(whole) == value:
            values[n] = known[whole]
        else:
            values[n] = np.log1p(np.float64(value) / total * scale)
