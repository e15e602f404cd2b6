"""Binning the genes of cells on sparse rows, compiled: the tokens of the numpy form, many times faster."""

from __future__ import annotations

import numpy as np

from scmodelforge.data._compile import compiled, inner
from scmodelforge.data.draws import mix
from scmodelforge.data.types import CellBlock
from scmodelforge.tokenizers._bin_rules import Binned, BinRules
from scmodelforge.tokenizers._selection_kernel import select_genes

__all__ = ["bin_cells"]

#: Places for the different values of a cell, a power of two, and most of them that are worth looking up.
_PLACES_BITS = 11
_PLACES = 1 << _PLACES_BITS
_MOST_DIFFERENT = 512
#: Bits of a digit of the numbers that are sorted.
_BITS = 11
_BUCKETS = 1 << _BITS
#: Numbers up to which sorting by insertion is faster.
_FEW = 48

_QUANTILE, _FIXED = 0, 1
_LOWER, _UPPER, _RANDOM = 1, 2, 3
_METHODS = ("quantile", "fixed", "uniform")
_TIES = ("mid", "lower", "upper", "random")
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST_FACTOR, _SECOND_FACTOR = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def bin_cells(block: CellBlock, rules: BinRules, keys: np.ndarray) -> Binned | None:
    """Return the known genes of each cell with their bins, tokens ascending.

    Parameters
    ----------
    block
        The cells.
    rules
        What decides tokens and bins.
    keys
        Base of each cell's random draws, shape (n,), uint64.

    Returns
    -------
    The tokens, or ``None`` where the numpy form is needed: for few values, without numba, if columns do not ascend, or
    of values that are not in single precision.
    """
    fill = _fill(len(block.data))
    if fill is None or block.data.dtype != np.float32:
        return None
    size, num_first = len(block.data) + len(block) * len(rules.first), len(rules.first)
    (ids, bins), values = np.empty((2, size), dtype=np.int32), np.empty(size, dtype=np.float32)
    offsets, keys = np.zeros(len(block) + 1, dtype=np.int64), keys.astype(np.uint64)
    known = rules.tokens[rules.tokens >= 0]
    rises, most = bool((known[1:] > known[:-1]).all()), int(np.diff(block.indptr).max(initial=0))
    given = block.data, block.indices, block.indptr, keys, rules.tokens, rules.levels
    how = _METHODS.index(rules.method), _TIES.index(rules.ties), rises, rules.first[0] if rules.first else -1, most
    if not fill(*given, *how, np.uint64(mix("bin")), offsets, ids, bins, values):
        return None
    ids, bins = ids[: offsets[-1]], bins[: offsets[-1]]
    if np.diff(offsets).max(initial=0) <= rules.room + num_first:
        return Binned(offsets, ids, bins, np.zeros(len(block) + 1, dtype=np.int64), np.zeros(0, dtype=np.int32))
    selection, classes, room = rules.selection, rules.classes, rules.room
    found = select_genes(
        offsets, ids, values, keys, selection=selection, classes=classes, room=room, num_first=num_first
    )
    if found is None:
        return None
    return Binned(found.offsets, ids[found.places], bins[found.places], found.cut_offsets, ids[found.cut])


@compiled
def _fill(
    data, indices, indptr, keys, tokens, levels, method, ties, rises, start, most, purpose, offsets, ids, bins, values
):
    genes, shown, chosen = np.empty(most + 1, np.int32), np.empty(most + 1, np.float32), np.empty(most + 1, np.int32)
    items, other = np.empty(most + 1, np.uint64), np.empty(most + 1, np.uint64)
    groups, counts = np.empty(most + 1, np.uint32), np.zeros((3, _BUCKETS), np.uint32)
    different, ends, bounds = np.empty(most + 1), np.empty(most + 1, np.int64), np.empty((most + 1, 2), np.int32)
    table = np.zeros((3, _PLACES), np.uint32)
    bits, edges = shown.view(np.uint32), levels.copy()
    for cell in range(len(indptr) - 1):
        begin, end = indptr[cell], indptr[cell + 1]
        number = _collect(data[begin:end], indices[begin:end], tokens, genes, shown)
        if number < 0:
            return False
        if not rises:
            _sort_by_gene(genes, bits, items, other, number, counts)
        num_groups = _group(bits, number, items, other, groups, table, different, ends, counts)
        if number and method != _FIXED:
            _set_edges(levels, different, ends, num_groups, number, method == _QUANTILE, edges)
        _set_bounds(edges, different, num_groups, bounds)
        _choose(bounds, groups, genes, number, num_groups, ties, _mixed(purpose, keys[cell]), chosen)
        at = offsets[cell]
        if start >= 0:
            ids[at], bins[at], values[at] = start, 0, 0.0
            at += 1
        offsets[cell + 1] = at + number
        ids[at : at + number], bins[at : at + number], values[at : at + number] = (
            genes[:number],
            chosen[:number],
            shown[:number],
        )
    return True


@inner
def _collect(data, indices, tokens, genes, shown):
    """Collect the expressed known genes of a cell; return how many, or -1 if columns do not ascend."""
    number, last, ascends = np.uint64(0), np.int64(-1), True
    for n in range(len(data)):
        column = np.uint32(indices[n])
        gene = tokens[column]
        genes[number], shown[number] = gene, data[n]
        number += np.uint64((gene >= 0) & (data[n] > 0))  # written over unless it counts: no branch
        ascends &= np.int64(column) > last
        last = np.int64(column)
    return np.int64(number) if ascends else np.int64(-1)


@inner
def _sort_by_gene(genes, bits, items, other, number, counts):
    for n in range(number):
        items[n] = (np.uint64(genes[n]) << np.uint64(32)) | np.uint64(bits[n])
    _sort(items, other, number, counts)
    for n in range(number):
        genes[n], bits[n] = np.int32(items[n] >> np.uint64(32)), np.uint32(items[n])


@inner
def _sort(items, other, number, counts):
    """Sort numbers by their upper 32 bits, in stable passes by 11 bits."""
    if number <= _FEW:
        for n in range(1, number):
            item, back = items[n], n
            while back > 0 and items[back - 1] >> np.uint64(32) > item >> np.uint64(32):
                items[back] = items[back - 1]
                back -= 1
            items[back] = item
        return
    counts[:] = 0
    for n in range(number):
        for digit in range(3):
            counts[digit, (items[n] >> np.uint64(32 + digit * _BITS)) & np.uint64(_BUCKETS - 1)] += np.uint32(1)
    for digit in range(3):
        shift, within = np.uint64(32 + digit * _BITS), counts[digit]
        if within[(items[0] >> shift) & np.uint64(_BUCKETS - 1)] == number:
            continue  # all alike
        taken = np.uint32(0)
        for bucket in range(_BUCKETS):
            here = within[bucket]
            within[bucket] = taken
            taken += here
        for n in range(number):
            bucket = (items[n] >> shift) & np.uint64(_BUCKETS - 1)
            other[within[bucket]] = items[n]
            within[bucket] += np.uint32(1)
        items[:number] = other[:number]


@inner
def _group(bits, number, items, other, groups, table, different, ends, counts):
    """Give equal values of a cell one number, ascending with the value; return how many there are.

    The bits of positive floats rise with them. ``different`` gets the values, ``ends`` how many are at most as large.
    """
    narrow = other.view(np.float32)
    num_groups = _look_up(bits, number, items, ends, groups, table)
    if num_groups < 0:
        return _group_by_sorting(bits, number, items, other, groups, different, ends, counts)
    _sort(items, other, num_groups, counts)
    for group in range(num_groups):
        before = np.uint32(items[group])
        other[group], table[1, before] = np.uint64(ends[before]), np.uint32(group)
    taken = 0
    for group in range(num_groups):
        taken += np.int64(other[group])
        ends[group] = taken
    for group in range(num_groups):
        other[0] = items[group] >> np.uint64(32)
        different[group] = np.float64(narrow[0])
    for n in range(number):
        groups[n] = table[1, groups[n]]
    return num_groups


@inner
def _look_up(bits, number, items, ends, groups, table):
    """Number the different values in the order they come; return how many, or -1 if there are too many.

    ``items`` gets value and number of each, ``ends`` how often it occurs.
    """
    num_groups, places = 0, table[0]
    for n in range(number):
        value = bits[n]
        place = np.uint32(value * np.uint32(0x9E3779B1)) >> np.uint32(32 - _PLACES_BITS)
        while places[place] != value:
            if places[place] == 0:  # no value is 0
                if num_groups == _MOST_DIFFERENT:
                    places[:] = 0
                    return -1
                places[place], table[1, place] = value, num_groups
                items[num_groups], ends[num_groups] = (np.uint64(value) << np.uint64(32)) | np.uint64(num_groups), 0
                table[2, num_groups] = place
                num_groups += 1
                break
            place = np.uint32((place + np.uint32(1)) & np.uint32(_PLACES - 1))
        groups[n] = table[1, place]
        ends[groups[n]] += 1
    for group in range(num_groups):
        places[table[2, group]] = 0
    return num_groups


@inner
def _group_by_sorting(bits, number, items, other, groups, different, ends, counts):
    for n in range(number):
        items[n] = (np.uint64(bits[n]) << np.uint64(32)) | np.uint64(n)
    _sort(items, other, number, counts)
    narrow = other.view(np.float32)
    num_groups, last = 0, np.uint64(0)
    for n in range(number):
        value = items[n] >> np.uint64(32)
        if value != last:
            other[0] = value
            different[num_groups] = np.float64(narrow[0])
            num_groups, last = num_groups + 1, value
        groups[np.uint32(items[n])] = num_groups - 1
        ends[num_groups - 1] = n + 1
    return num_groups


@inner
def _set_edges(levels, different, ends, num_groups, number, is_quantile, edges):
    """Set the edges of a cell: quantiles interpolated as numpy does it, or shares of the largest value."""
    group = 0
    for k in range(len(levels)):
        if not is_quantile:
            edges[k] = different[num_groups - 1] * levels[k]
            continue
        place = levels[k] * np.float64(number - 1)
        below = np.int64(np.floor(place))
        share = place - np.float64(below)
        while ends[group] <= below:
            group += 1
        low = different[group]
        high = different[group + 1] if below + 1 == ends[group] and below + 1 < number else low
        step = high - low
        edges[k] = high - step * (1.0 - share) if share >= 0.5 else low + step * share


@inner
def _set_bounds(edges, different, num_groups, bounds):
    """Set the lowest and the highest bin of each value by the edges below it, and those not above it."""
    below, reached = 0, 0
    for group in range(num_groups):
        value = different[group]
        while below < len(edges) and edges[below] < value:
            below += 1
        while reached < len(edges) and edges[reached] <= value:
            reached += 1
        highest = max(reached, 1)
        bounds[group, 0], bounds[group, 1] = min(below + 1, highest), highest


@inner
def _choose(bounds, groups, genes, number, num_groups, ties, state, chosen):
    if ties == _RANDOM:
        for n in range(number):
            lowest, highest = bounds[groups[n], 0], bounds[groups[n], 1]
            draw = np.float64(_mixed(state, np.uint64(genes[n])) >> np.uint64(11)) * 2.0**-53
            chosen[n] = max(lowest, np.int32(np.ceil(draw * np.float64(lowest - 1 - highest) + np.float64(highest))))
        return
    for group in range(num_groups):
        lowest, highest = bounds[group, 0], bounds[group, 1]
        middle = (lowest + highest + 1) // 2
        bounds[group, 0] = lowest if ties == _LOWER else highest if ties == _UPPER else middle
    for n in range(number):
        chosen[n] = bounds[groups[n], 0]


@inner
def _mixed(state, word):
    """Hash one more part, as :func:`scmodelforge.data.draws.mix` does."""
    value = (state ^ word) + _STEP
    value = (value ^ (value >> np.uint64(30))) * _FIRST_FACTOR
    value = (value ^ (value >> np.uint64(27))) * _SECOND_FACTOR
    return value ^ (value >> np.uint64(31))
