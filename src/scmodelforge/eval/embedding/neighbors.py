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
    """The nearest cells of each cell, nearest first and itself the first of all.

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


def nearest_neighbors(embeddings: np.ndarray, k: int) -> Neighbors:
    """Return the ``k`` nearest cells of each cell, itself included. Of equally near ones the first listed count.

    Parameters
    ----------
    embeddings
        Shape (n, H), finite.
    k
        Neighbours, 1 to n.
    """
    points = np.asarray(embeddings, dtype=np.float64)
    indices = np.empty((len(points), k), dtype=np.int64)
    squared = np.empty((len(points), k))
    kernel = compiled(_keep_nearest)(len(points) ** 2) if len(points) > _DIRECT else None
    single, scale = _in_single_precision(points)
    lengths = np.einsum("ij,ij->i", single, single)
    for begin in range(0, len(points), _ROWS):
        rows = np.arange(begin, min(begin + _ROWS, len(points)))
        if kernel is None:
            _search_all(points, rows, k, indices, squared)
            continue
        candidates, limits = _candidates(single, lengths, rows, min(k + _SPARE, len(points)), kernel)
        _rank(points, rows, candidates, k, indices, squared)
        doubtful = rows[squared[rows, -1] >= limits * scale**2]
        _search_all(points, doubtful, k, indices, squared)
    return Neighbors(indices, np.sqrt(squared))


def _in_single_precision(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the points around their mean, none of their numbers above 1, and what they were divided by."""
    centred = points - points.mean(axis=0)  # small numbers lose least where distances are differences of squares
    scale = float(np.abs(centred).max(initial=0.0)) or 1.0
    return (centred / scale).astype(np.float32), scale


def _candidates(
    points: np.ndarray, squares: np.ndarray, rows: np.ndarray, count: int, kernel: Callable[..., None]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest cells in single precision, and the squared distance below which no other cell can be."""
    best = np.full((len(rows), count), np.inf, dtype=np.float32)
    found = np.zeros((len(rows), count), dtype=np.int64)
    for start in range(0, len(points), _COLUMNS):
        part = slice(start, start + _COLUMNS)
        kernel(points[rows] @ points[part].T, squares[rows], squares[part], start, best, found)
    if count == len(points):
        return found, np.full(len(rows), np.inf)
    own, furthest = squares[rows].astype(np.float64), np.maximum(best[:, 0], 0).astype(np.float64)
    # A cell longer than this lies beyond the furthest candidate whatever its products were rounded to.
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
    points: np.ndarray, rows: np.ndarray, candidates: np.ndarray, k: int, indices: np.ndarray, squared: np.ndarray
) -> None:
    """Write the nearest of some candidates of each row."""
    step = max(1, _BLOCK_BYTES // (8 * points.shape[1] * candidates.shape[1] + 1))
    for begin in range(0, len(rows), step):
        part = slice(begin, begin + step)
        own, others = rows[part], np.sort(candidates[part], axis=1)
        differences = points[others] - points[own, None, :]
        distances = np.einsum("rcd,rcd->rc", differences, differences)
        distances[others == own[:, None]] = -1.0  # itself first, before its copies
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        indices[own] = np.take_along_axis(others, order, axis=1)
        squared[own] = np.maximum(np.take_along_axis(distances, order, axis=1), 0.0)


def _search_all(points: np.ndarray, rows: np.ndarray, k: int, indices: np.ndarray, squared: np.ndarray) -> None:
    """Write the nearest of all cells."""
    step = max(1, _BLOCK_BYTES // (8 * points.size))
    everyone = np.arange(len(points))[None, :]
    for begin in range(0, len(rows), step):
        part = rows[begin : begin + step]
        _rank(points, part, np.repeat(everyone, len(part), axis=0), k, indices, squared)
