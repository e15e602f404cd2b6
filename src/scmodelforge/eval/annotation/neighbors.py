"""Nearest neighbours, exact, in blocks of rows."""

from __future__ import annotations

import numpy as np

__all__ = ["nearest_neighbors"]

_CHUNK_BYTES = 64 * 2**20  # of one block of distances
_SPARE = 9  # candidates beyond the neighbours wanted


def nearest_neighbors(points: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Find the nearest points of each query by Euclidean distance.

    Candidates come from a product of matrices in single precision, whose order is then settled by differences; where
    rounding could have lost a neighbour, double precision decides.

    Parameters
    ----------
    points
        Shape (m, H).
    queries
        Shape (n, H).
    k
        Neighbours, at most m.

    Returns
    -------
    Rows of ``points``, nearest first, shape (n, k), int64; of points as near as each other the first ones.
    """
    centre = points.mean(axis=0, dtype=np.float64)
    points, queries = (np.asarray(rows - centre, dtype=np.float32) for rows in (points, queries))
    squares = np.einsum("ij,ij->i", points, points)
    num_candidates = min(len(points), k + _SPARE)
    step = max(1, _CHUNK_BYTES // (4 * max(len(points), num_candidates * points.shape[1])))
    found = np.empty((len(queries), k), dtype=np.int64)
    for begin in range(0, len(queries), step):
        rows = slice(begin, begin + step)
        found[rows] = _of_block(points, squares, queries[rows], k, num_candidates)
    return found


def _of_block(points: np.ndarray, squares: np.ndarray, queries: np.ndarray, k: int, num_candidates: int) -> np.ndarray:
    near = squares - 2 * (queries @ points.T)  # less the query's own square, the same for all points
    if num_candidates < len(points):
        candidates = np.argpartition(near, num_candidates - 1, axis=1)[:, :num_candidates]
    else:
        candidates = np.broadcast_to(np.arange(len(points)), near.shape)
    gaps = queries[:, None] - points[candidates]
    exact = np.einsum("ijk,ijk->ij", gaps, gaps)
    order = np.lexsort((candidates, exact), axis=-1)[:, :k]
    found = np.take_along_axis(candidates, order, axis=1).astype(np.int64)
    if num_candidates < len(points):
        own = np.einsum("ij,ij->i", queries, queries)
        # No point that is not a candidate is nearer than this, but for rounding.
        others = np.take_along_axis(near, candidates, axis=1).max(axis=1) + own
        # A point longer than this is further away than they are, whatever its products were rounded to.
        longest = np.minimum(squares.max(), (np.sqrt(own) + np.sqrt(np.maximum(others, 0))) ** 2)
        rounding = 4 * np.finfo(np.float32).eps * np.sqrt(points.shape[1]) * (own + longest)
        last = np.take_along_axis(exact, order[:, -1:], axis=1)[:, 0]
        for row in np.flatnonzero(last >= others - rounding):
            found[row] = _of_one(points, queries[row], k)
    return found


def _of_one(points: np.ndarray, query: np.ndarray, k: int) -> np.ndarray:
    gaps = points.astype(np.float64) - query
    distances = np.einsum("ij,ij->i", gaps, gaps)
    candidates = np.flatnonzero(distances <= np.partition(distances, k - 1)[k - 1])
    return candidates[np.argsort(distances[candidates], kind="stable")[:k]]
