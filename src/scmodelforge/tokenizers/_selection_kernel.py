"""Choosing among the genes of crowded cells, compiled; see :mod:`scmodelforge.tokenizers.gene_selection`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from scmodelforge.data._compile import compiled, inner
from scmodelforge.data.draws import mix
from scmodelforge.data.measured import row_offsets
from scmodelforge.tokenizers.gene_selection import LOG_2, SERIES, Selection

__all__ = ["Chosen", "select_genes"]

#: Bits of a digit of the numbers the lowest are found of.
_BITS = 11
_BUCKETS = 1 << _BITS

#: So many tokens are worth compiling for: the bins of these were found by a compiled loop.
_MANY = 1 << 62
_WEIGHTED, _TOP = 1, 2
_SELECTIONS = ("random", "weighted", "top", "hvg_first")

_SERIES = np.array(SERIES)
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST_FACTOR, _SECOND_FACTOR = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_LARGEST = np.uint64((1 << 62) - 1)


class Chosen(NamedTuple):
    """Which tokens of some cells have room, and which have none.

    Attributes
    ----------
    offsets, places
        Start of each cell's, shape (n + 1,), and where the tokens stand among all, shape (T,), int64.
    cut_offsets, cut
        Those without room, likewise.
    """

    offsets: np.ndarray
    places: np.ndarray
    cut_offsets: np.ndarray
    cut: np.ndarray


def select_genes(
    offsets: np.ndarray,
    ids: np.ndarray,
    values: np.ndarray,
    keys: np.ndarray,
    *,
    selection: Selection,
    classes: np.ndarray,
    room: int,
    num_first: int = 0,
) -> Chosen | None:
    """Return which tokens have room.

    Parameters
    ----------
    offsets
        Start of each cell's tokens, shape (n + 1,), int64.
    ids, values
        Tokens, ascending within each cell after the first ones, and their expression in single precision, shape (T,).
    keys
        Base of each cell's random draws, shape (n,), uint64.
    selection, classes, room
        As of :func:`~scmodelforge.tokenizers.gene_selection.is_kept`.
    num_first
        Tokens of each cell that stand before its genes; they are kept.

    Returns
    -------
    The tokens, or ``None`` without numba.
    """
    kernel = _select(_MANY)
    if kernel is None:
        return None
    numbers = np.diff(offsets) - num_first
    kept, cut = row_offsets(np.minimum(numbers, room) + num_first), row_offsets(np.maximum(numbers - room, 0))
    chosen = Chosen(kept, np.empty(kept[-1], dtype=np.int64), cut, np.empty(cut[-1], dtype=np.int64))
    how = _SELECTIONS.index(selection), room, num_first, int(numbers.max(initial=0)), np.uint64(mix("gene sample"))
    kernel(offsets, ids, values, keys.astype(np.uint64), classes, *how, *chosen)
    return chosen


@compiled
def _select(
    offsets, ids, values, keys, classes, selection, room, num_first, most, purpose, kept, kept_places, cut, cut_places
):
    scores, left, counts = np.empty(most + 1, np.uint64), np.empty(most + 1, np.uint64), np.empty(_BUCKETS, np.uint32)
    for cell in range(len(keys)):
        begin, end, at, cut_at = offsets[cell], offsets[cell + 1], kept[cell], cut[cell]
        number = end - begin - num_first
        if number <= room:
            for place in range(begin, end):
                kept_places[at + place - begin] = place
            continue
        for n in range(num_first):
            kept_places[at + n] = begin + n
        begin, at = begin + num_first, at + num_first
        genes, shown = ids[begin:end], values[begin:end]
        _score(genes, shown, classes, number, selection, _mixed(purpose, keys[cell]), scores)
        limit, num_equal = _lowest(scores, left, number, room, counts)
        for n in range(number):
            is_equal = scores[n] == limit
            if scores[n] < limit or (is_equal and num_equal > 0):  # tokens ascend: of equal ones the lowest are kept
                kept_places[at] = begin + n
                at += 1
                num_equal -= is_equal
            else:
                cut_places[cut_at] = begin + n
                cut_at += 1


@inner
def _score(genes, shown, classes, number, selection, state, scores):
    """Set what genes are kept by, the lowest first; see the numpy form."""
    floats = scores.view(np.float64)
    for n in range(number):
        if selection == _TOP:
            floats[n] = np.float64(shown[n])
            score = _LARGEST - (scores[n] >> np.uint64(1))
        else:
            draw = _mixed(state, np.uint64(genes[n]))
            score = draw >> np.uint64(2)
            if selection == _WEIGHTED:
                floats[n] = _exponential(draw) / np.float64(shown[n])
                score = scores[n] >> np.uint64(1)
        scores[n] = score | (np.uint64(classes[genes[n]]) << np.uint64(62))


@inner
def _exponential(draw):
    mantissa, exponent = math.frexp(np.float64((draw >> np.uint64(11)) + np.uint64(1)))
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    square, series = ratio * ratio, 0.0
    for k in range(len(_SERIES)):
        series = series * square + _SERIES[k]
    return max(np.float64(53 - exponent) * LOG_2 - 2.0 * ratio * series, 2.0**-53)


@inner
def _lowest(scores, left, number, room, counts):
    """Return the score that the last of the lowest ones has, and how many of those that have it are among them."""
    for n in range(number):
        left[n] = scores[n]
    num_left, wanted = number, room
    for digit in range(6):  # 64 bits, the highest first
        shift = np.uint64(max(0, 53 - digit * _BITS))
        mask = np.uint64(_BUCKETS - 1) if digit < 5 else np.uint64(511)
        counts[:] = 0
        for n in range(num_left):
            counts[(left[n] >> shift) & mask] += np.uint32(1)
        bucket = 0
        while counts[bucket] < wanted:
            wanted -= counts[bucket]
            bucket += 1
        kept = 0
        for n in range(num_left):
            if (left[n] >> shift) & mask == bucket:
                left[kept] = left[n]
                kept += 1
        num_left = kept
        if num_left == 1:
            break
    return left[0], np.int64(wanted)


@inner
def _mixed(state, word):
    """Hash one more part, as :func:`scmodelforge.data.draws.mix` does."""
    value = (state ^ word) + _STEP
    value = (value ^ (value >> np.uint64(30))) * _FIRST_FACTOR
    value = (value ^ (value >> np.uint64(27))) * _SECOND_FACTOR
    return value ^ (value >> np.uint64(31))
