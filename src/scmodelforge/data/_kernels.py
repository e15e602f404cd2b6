"""Loops over numbers, compiled by numba where it is installed, in numpy otherwise; compiled ones free other threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np

__all__ = ["compiled", "copy_rows", "copy_runs", "inner", "inner_sum", "pad_rows", "take_rows", "warm_up"]

#: Numbers from which on a compiled loop is worth importing numba, and compiling the loop the first time.
_WORTH_COMPILING = 1 << 17


_one_at_a_time = threading.RLock()


def warm_up() -> None:
    """Begin to load numba in a thread of its own; the first who needs a loop waits the less for it.

    That and what numba needs to run a loop take the better part of a second.
    """
    threading.Thread(target=_load_one, name="scmodelforge-warm-up", daemon=True).start()


class Inner:
    """A loop that is part of compiled ones; see :func:`inner`."""

    def __init__(self, function: Callable[..., Any], *, reorders_sums: bool) -> None:
        self.function, self.reorders_sums = function, reorders_sums


def inner(function: Callable[..., Any]) -> Inner:
    """Mark a function that compiled ones of the same file call."""
    return Inner(function, reorders_sums=False)


def inner_sum(function: Callable[..., Any]) -> Inner:
    """Mark one that adds up numbers, in an order that is left to the compiler."""
    return Inner(function, reorders_sums=True)


def compiled(function: Callable[..., Any]) -> Callable[[int], Callable[..., Any] | None]:
    """Return what gives the function compiled for so many numbers, or ``None`` for few or without numba."""

    @cache
    def kernel() -> Callable[..., Any] | None:
        with suppress(ImportError):
            return _compile(function)
        return None

    def get(size: int) -> Callable[..., Any] | None:
        if size < _WORTH_COMPILING:
            return None
        with _one_at_a_time:
            return kernel()

    return get


def _compile(function: Callable[..., Any], *, reorders_sums: bool = False) -> Callable[..., Any]:
    """Compile a function and what it calls; a division by zero gives what it gives in numpy."""
    import numba

    used = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    parts = {
        name: _compile(part.function, reorders_sums=part.reorders_sums)
        for name, part in used.items()
        if isinstance(part, Inner)
    }
    whole = FunctionType(function.__code__, {**function.__globals__, **parts}, function.__name__)
    whole.__qualname__, whole.__module__ = function.__qualname__, function.__module__
    fast = {"reassoc"} if reorders_sums else False
    kernel: Callable[..., Any] = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=fast)(whole)
    return kernel


def copy_runs(
    values: np.ndarray,
    first: int,
    starts: np.ndarray,
    lengths: np.ndarray,
    places: np.ndarray,
    done: int,
    out: np.ndarray,
) -> int:
    """Copy what some values hold of runs into an array.

    Parameters
    ----------
    values
        Values number ``first`` and on of an array that is not here whole.
    first
        Number of the first of them.
    starts, lengths
        The runs in the whole array, shape (n,), int64, none empty; ``starts`` ascending.
    places
        Where in ``out`` each run begins.
    done
        Number of the first run that may not be copied whole yet.
    out
        Gets the values.

    Returns
    -------
    ``done`` after this.
    """
    kernel = _copy_runs(len(out))
    if kernel is not None:
        return int(kernel(values, first, starts, lengths, places, done, out))
    stop = first + len(values)
    while done < len(starts) and starts[done] < stop:
        begin, end = max(int(starts[done]), first), min(int(starts[done] + lengths[done]), stop)
        place = int(places[done] + begin - starts[done])
        out[place : place + end - begin] = values[begin - first : end - first]
        if starts[done] + lengths[done] > stop:
            break
        done += 1
    return done


@compiled
def _copy_runs(values, first, starts, lengths, places, done, out):
    stop = first + len(values)
    while done < len(starts) and starts[done] < stop:
        begin = max(starts[done], first)
        end = min(starts[done] + lengths[done], stop)
        place = places[done] + begin - starts[done]
        for number in range(end - begin):
            out[place + number] = values[begin - first + number]
        if starts[done] + lengths[done] > stop:
            break
        done += 1
    return done


def _load_one() -> None:
    kernel = _copy_rows(_WORTH_COMPILING)
    if kernel is not None:
        some = np.zeros(1, dtype=np.int64)
        kernel(some.astype(np.float32), some, some, some, some.astype(np.float32))


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
        begin, place = starts[number], places[number]
        for step in range(lengths[number]):
            out[place + step] = values[begin + step]


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
    kernel = _take_rows(int(chosen[-1]))
    if kernel is not None:
        out = np.empty(int(chosen[-1]), dtype=values.dtype)
        kernel(values, offsets, np.asarray(rows, dtype=np.int64), chosen, out)
        return out
    take = np.arange(int(chosen[-1]), dtype=np.int64) + np.repeat(offsets[rows] - chosen[:-1], np.diff(chosen))
    return values[take]


@compiled
def _take_rows(values, offsets, rows, chosen, out):
    for number in range(len(rows)):
        begin, place = offsets[rows[number]], chosen[number]
        for step in range(chosen[number + 1] - place):
            out[place + step] = values[begin + step]


def pad_rows(values: np.ndarray, offsets: np.ndarray, width: int, *, fill: int, dtype: type) -> np.ndarray:
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
        begin = offsets[row]
        for step in range(offsets[row + 1] - begin):
            out[row, step] = values[begin + step]
