"""Exact nearest neighbours by Euclidean distance, a block of distances at a time.

Candidates come from products in single precision, which are fast and may be wrong in the last digits. Their distances
are computed again, number by number in double precision, and where the rounding of the first step could have lost a
neighbour the whole row is: the result is that of double precision, whatever the block, the library and its threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scmodelforge.data._compile import compiled

__all__ = ["Neighbors", "nearest_neighbors"]

_ROWS, _COLUMNS = 512, 4096  # of a block of products: small enough for a processor's cache
_SPARE = 16  # candidates beyond those asked for
_DIRECT = 512  # cells up to which all distances are computed number by number
_BLOCK_BYTES = 32 * 2**20


class Neighbors(NamedTuple):
    """The nearest cells of each cell, nearest first; of the cell's own set, itself the first of all.

    Attributes
    ----------
    indices
        Shape (n, k), int64.
    distances
        Euclidean, shape (n, k), float64.
    """

    indices: np.ndarray
    distances: np.ndarray

    def first(self, k: int) -> Neighbors:
        """Return the ``k`` nearest of each cell, itself included."""
        return Neighbors(self.indices[:, :k], self.distances[:, :k])


def nearest_neighbors(points: np.ndarray, k: int, *, queries: np.ndarray | None = None) -> Neighbors:
    """Return the ``k`` nearest points of each query. Of equally near ones the first listed count.

    Parameters
    ----------
    points
        Shape (n, H), finite.
    k
        Neighbours, 1 to n.
    queries
        Shape (q, H), finite; ``None`` are the points, each of which has itself for its first neighbour.
    """
    cells = _Cells.of(points, queries)
    indices = np.empty((len(cells.queries), k), dtype=np.int64)
    squared = np.empty((len(cells.queries), k))
    few = len(cells.points) <= _DIRECT
    kernel = None if few else compiled(_keep_nearest)(len(cells.points) * len(cells.queries))
    for begin in range(0, len(cells.queries), _ROWS):
        rows = np.arange(begin, min(begin + _ROWS, len(cells.queries)))
        if kernel is None:
            _search_all(cells, rows, k, indices, squared)
            continue
        candidates, limits = _candidates(cells, rows, min(k + _SPARE, len(cells.points)), kernel)
        _rank(cells, rows, candidates, k, indices, squared)
        doubtful = rows[squared[rows, -1] >= limits * cells.scale**2]
        _search_all(cells, doubtful, k, indices, squared)
    return Neighbors(indices, np.sqrt(squared))


class _Cells(NamedTuple):
    """Points and queries in double precision, and around the points' mean, none of their numbers above 1, in single."""

    points: np.ndarray
    queries: np.ndarray
    small_points: np.ndarray
    small_queries: np.ndarray
    scale: float  # what the small ones were divided by
    are_same: bool

    @classmethod
    def of(cls, points: np.ndarray, queries: np.ndarray | None) -> _Cells:
        given = np.asarray(points, dtype=np.float64)
        centre = given.mean(axis=0)  # small numbers lose least where distances are differences of squares
        asked = given if queries is None else np.asarray(queries, dtype=np.float64)
        around = given - centre
        asked_around = around if queries is None else asked - centre
        scale = max(float(np.abs(around).max(initial=0.0)), float(np.abs(asked_around).max(initial=0.0))) or 1.0
        single = (around / scale).astype(np.float32)
        asked_single = single if queries is None else (asked_around / scale).astype(np.float32)
        return cls(given, asked, single, asked_single, scale, queries is None)


def _candidates(
    cells: _Cells, rows: np.ndarray, count: int, kernel: Callable[..., None]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest points in single precision, and the squared distance below which no other point can be."""
    points, queries = cells.small_points, cells.small_queries[rows]
    squares, own_squares = (np.einsum("ij,ij->i", some, some) for some in (points, queries))
    best = np.full((len(rows), count), np.inf, dtype=np.float32)
    found = np.zeros((len(rows), count), dtype=np.int64)
    for start in range(0, len(points), _COLUMNS):
        part = slice(start, start + _COLUMNS)
        kernel(queries @ points[part].T, own_squares, squares[part], start, best, found)
    if count == len(points):
        return found, np.full(len(rows), np.inf)
    own, furthest = own_squares.astype(np.float64), np.maximum(best[:, 0], 0).astype(np.float64)
    # A point longer than this lies beyond the furthest candidate whatever its products were rounded to.
    longest = np.minimum(squares.max(), (np.sqrt(own) + np.sqrt(furthest)) ** 2)
    return found, furthest - (points.shape[1] + 10) * 2.0**-24 * (own + longest)


def _keep_nearest(products, own_squares, squares, start, best, found):
    """Put cells nearer than the furthest kept one in its place; what is kept is a heap, the furthest on top."""
    size = best.shape[1]
    for row in range(products.shape[0]):
        furthest = best[row, 0]
        for column in range(products.shape[1]):
            distance = own_squares[row] + squares[column] - np.float32(2.0) * products[row, column]
            if distance >= furthest:
                continue
            place = 0
            while True:
                child = 2 * place + 1
                if child >= size:
                    break
                if child + 1 < size and best[row, child + 1] > best[row, child]:
                    child += 1
                if best[row, child] <= distance:
                    break
                best[row, place] = best[row, child]
                found[row, place] = found[row, child]
                place = child
            best[row, place] = distance
            found[row, place] = start + column
            furthest = best[row, 0]


def _rank(
    cells: _Cells, rows: np.ndarray, candidates: np.ndarray, k: int, indices: np.ndarray, squared: np.ndarray
) -> None:
    """Write the nearest of some candidates of each row."""
    step = max(1, _BLOCK_BYTES // (8 * cells.points.shape[1] * candidates.shape[1] + 1))
    for begin in range(0, len(rows), step):
        part = slice(begin, begin + step)
        own, others = rows[part], np.sort(candidates[part], axis=1)
        differences = cells.points[others] - cells.queries[own, None, :]
        distances = np.einsum("rcd,rcd->rc", differences, differences)
        if cells.are_same:
            distances[others == own[:, None]] = -1.0  # itself first, before its copies
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        indices[own] = np.take_along_axis(others, order, axis=1)
        squared[own] = np.maximum(np.take_along_axis(distances, order, axis=1), 0.0)


def _search_all(cells: _Cells, rows: np.ndarray, k: int, indices: np.ndarray, squared: np.ndarray) -> None:
    """Write the nearest of all points."""
    step = max(1, _BLOCK_BYTES // (8 * cells.points.size))
    everyone = np.arange(len(cells.points))[None, :]
    for begin in range(0, len(rows), step):
        part = rows[begin : begin + step]
        _rank(cells, part, np.repeat(everyone, len(part), axis=0), k, indices, squared)
