"""Loops over numbers, compiled by numba where it is installed, in numpy otherwise; compiled ones free other threads."""

from __future__ import annotations

import numpy as np

from scmodelforge.data._compile import compiled, expect_many, in_background

__all__ = [
    "copy_cells",
    "copy_rows",
    "fit_in_16_bits",
    "pack_cells",
    "pad_rows",
    "row_sums",
    "scaled",
    "take_rows",
    "warm_up",
]

#: Whole numbers below this have their logarithm computed once a row.
_FEW = 256
#: Largest number of 16 bits.
_LARGEST = 0xFFFF


def copy_rows(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray, places: np.ndarray, out: np.ndarray) -> None:
    """Copy pieces of one array to places of another.

    Parameters
    ----------
    values
        Shape (T,).
    starts, lengths
        The pieces, shape (n,), int64, in any order.
    places
        Where in ``out`` each begins, shape (n,), int64.
    out
        Gets the values.
    """
    kernel = _copy_rows(len(out))
    if kernel is not None:
        kernel(values, starts, lengths, places, out)
        return
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    out[np.repeat(places, lengths) + within] = values[np.repeat(starts, lengths) + within]


@compiled
def _copy_rows(values, starts, lengths, places, out):
    for number in range(len(starts)):
        length = lengths[number]
        # through views, whose bounds the compiler knows, this is three times as fast as by numbers in the arrays
        source = values[starts[number] : starts[number] + length]
        target = out[places[number] : places[number] + length]
        for step in range(length):
            target[step] = source[step]


def pack_cells(data: np.ndarray, columns: np.ndarray, out_data: np.ndarray, out_columns: np.ndarray) -> bool:
    """Copy values and columns into arrays of other types; say whether the values are the same there.

    Parameters
    ----------
    data, columns
        Shape (nnz,).
    out_data
        Gets the values, shape (nnz,), float32 or uint16. Whole numbers below 65,536 are the same in both.
    out_columns
        Gets the columns, shape (nnz,); its type must hold them.
    """
    kernel = _pack_cells(len(data))
    if kernel is not None:
        return bool(kernel(data, columns, out_data, out_columns))
    out_columns[:] = columns
    with np.errstate(invalid="ignore"):
        out_data[:] = data
    return bool((out_data == data).all()) or out_data.dtype == data.dtype


@compiled
def _pack_cells(data, columns, out_data, out_columns):
    for n in range(len(columns)):
        out_columns[n] = columns[n]
    if out_data.itemsize == 4:
        for n in range(len(data)):
            out_data[n] = data[n]
        return True
    differing = 0
    for n in range(len(data)):
        whole = np.int32(min(max(data[n], np.float32(0)), np.float32(_LARGEST)))
        out_data[n] = whole
        differing += np.float32(whole) != data[n]
    return differing == 0


def fit_in_16_bits(values: np.ndarray) -> bool:
    """Tell whether all values are whole numbers from 0 to 65,535."""
    if not len(values) or np.can_cast(values.dtype, np.uint16):
        return True
    if values.dtype.kind in "iu":
        return bool(values.min() >= 0 and values.max() <= _LARGEST)
    kernel = _count_others(len(values))
    if kernel is not None:
        return bool(kernel(values) == 0)
    with np.errstate(invalid="ignore"):
        return bool((values.astype(np.uint16) == values).all())


@compiled
def _count_others(values):
    others = np.uint32(0)
    for n in range(len(values)):
        # in the type of the values: what is rounded to a whole number is none
        value = values[n]
        whole = np.int32(min(max(value, values.dtype.type(0)), values.dtype.type(_LARGEST)))
        others += np.uint32(values.dtype.type(whole) != value)
    return others


def copy_cells(
    values: np.ndarray,
    columns: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    places: np.ndarray,
    out_values: np.ndarray,
    out_columns: np.ndarray,
) -> None:
    """Do as :func:`copy_rows` for values and columns at once, which may be of other types than where they go to."""
    kernel = _copy_cells(len(out_values))
    if kernel is not None:
        kernel(values, columns, starts, lengths, places, out_values, out_columns)
        return
    copy_rows(values, starts, lengths, places, out_values)
    copy_rows(columns, starts, lengths, places, out_columns)


@compiled
def _copy_cells(values, columns, starts, lengths, places, out_values, out_columns):
    for number in range(len(starts)):
        begin, place, length = starts[number], places[number], lengths[number]
        source, target = values[begin : begin + length], out_values[place : place + length]
        for step in range(len(source)):
            target[step] = source[step]
        source_columns, target_columns = columns[begin : begin + length], out_columns[place : place + length]
        for step in range(len(source_columns)):
            target_columns[step] = source_columns[step]


def take_rows(values: np.ndarray, offsets: np.ndarray, rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return what some rows of a ragged array hold, one after another.

    Parameters
    ----------
    values
        Shape (T,).
    offsets
        Start of each row in ``values``, shape (n + 1,), int64.
    rows
        The rows, shape (m,), int64.
    chosen
        Start of each of them in the result, shape (m + 1,), int64.
    """
    out = np.empty(int(chosen[-1]), dtype=values.dtype)
    copy_rows(values, offsets[rows], np.diff(chosen), chosen[:-1], out)
    return out


def pad_rows(values: np.ndarray, offsets: np.ndarray, width: int, *, fill: float, dtype: type) -> np.ndarray:
    """Return the rows of a ragged array as those of a matrix, filled up on the right.

    Parameters
    ----------
    values
        Shape (T,).
    offsets
        Start of each row in ``values``, shape (n + 1,), int64, beginning with 0.
    width
        Columns of the matrix, at least the longest row.
    fill
        What rows are filled up with.
    dtype
        Type of the matrix.
    """
    out: np.ndarray = np.full((len(offsets) - 1, width), fill, dtype=dtype)
    kernel = _pad_rows(out.size)
    if kernel is not None:
        kernel(values, offsets, out)
    else:
        out[np.arange(width) < np.diff(offsets)[:, None]] = values
    return out


@compiled
def _pad_rows(values, offsets, out):
    for row in range(len(out)):
        source, target = values[offsets[row] : offsets[row + 1]], out[row]
        for step in range(len(source)):
            target[step] = source[step]


def row_sums(data: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Return the sum of each of some sparse rows, shape (n,), float64.

    Parameters
    ----------
    data
        Shape (nnz,).
    indptr
        Start of each row in ``data``, shape (n + 1,), int64.
    """
    sums = np.zeros(len(indptr) - 1, dtype=np.float64)
    kernel = _row_sums(len(data))
    if kernel is not None:
        kernel(data, indptr, sums)
        return sums
    filled = np.flatnonzero(np.diff(indptr))  # reduceat gives nonsense for empty rows
    if len(filled):
        sums[filled] = np.add.reduceat(data.astype(np.float64), indptr[filled])
    return sums


@compiled
def _row_sums(data, indptr, sums):
    for row in range(len(sums)):
        # Four sums, so that an addition need not wait for the one before.
        one, two, three, four = 0.0, 0.0, 0.0, 0.0
        at, stop = indptr[row], indptr[row + 1]
        while at + 4 <= stop:
            one, two = one + data[at], two + data[at + 1]
            three, four = three + data[at + 2], four + data[at + 3]
            at += 4
        while at < stop:
            one += data[at]
            at += 1
        sums[row] = (one + two) + (three + four)


def scaled(data: np.ndarray, indptr: np.ndarray, factors: np.ndarray, *, log1p: bool) -> np.ndarray:
    """Return the values of sparse rows times a factor for each row, or log(1 + these), float32.

    Parameters
    ----------
    data
        Shape (nnz,).
    indptr
        Start of each row in ``data``, shape (n + 1,), int64.
    factors
        Shape (n,), float64. Products and logarithms are computed in this precision.
    log1p
        Take the logarithm.
    """
    kernel = _scaled(len(data))
    if kernel is not None:
        out = np.empty(len(data), dtype=np.float32)
        kernel(data, indptr, factors, log1p, out)
        return out
    values = data * np.repeat(factors, np.diff(indptr))
    return (np.log1p(values, out=values) if log1p else values).astype(np.float32)


@compiled
def _scaled(data, indptr, factors, log1p, out):
    # Most counts are small whole numbers, of which a cell has many: each logarithm is computed once a cell.
    known, of_cell = np.empty(_FEW, np.float32), np.full(_FEW, -1, np.int64)
    for cell in range(len(factors)):
        factor = factors[cell]
        for at in range(indptr[cell], indptr[cell + 1]):
            value = data[at]
            if not log1p:
                out[at] = value * factor
            elif 0 <= value < _FEW and value == int(value):
                count = int(value)
                if of_cell[count] != cell:
                    of_cell[count] = cell
                    known[count] = np.log1p(count * factor)
                out[at] = known[count]
            else:
                out[at] = np.log1p(value * factor)


def warm_up() -> None:
    """Compile loops from now on, however few numbers they are given, and begin to load numba in a thread of its own.

    That takes the better part of a second, which the first who needs a loop would wait for.
    """
    expect_many()
    in_background(_load_one)


def _load_one() -> None:
    kernel = _copy_rows(1)
    if kernel is not None:
        some = np.zeros(1, dtype=np.int64)
        kernel(some.astype(np.float32), some, some, some, some.astype(np.float32))
