"""Local regression of one variable on another, as the ``loess`` of R and scikit-misc fits it by default.

Cleveland & Grosse 1991, doi:10.1007/BF01890836: quadratics are fitted by weighted least squares at a few vertices
only, chosen by halving the points again and again, and cubics that have the value and the slope of these fits at both
ends of each interval join them. The cubics differ from a fit at every point by some thousandths, which is enough to
change a ranking, so this goes through the same vertices.
"""

from __future__ import annotations

import numpy as np

from scmodelforge._errors import DataError

__all__ = ["loess"]

#: An interval is halved while it has more points than this share of those of a fit.
_CELL = 0.2
#: The outer vertices lie this share of the range outside of it.
_MARGIN = 0.005


def loess(x: np.ndarray, y: np.ndarray, *, span: float = 0.3) -> np.ndarray:
    """Return the smooth curve of y over x at each x, shape (n,), float64.

    Parameters
    ----------
    x, y
        The points, each shape (n,).
    span
        Share of the points that take part in the fit at each vertex, with tricube weights.

    Raises
    ------
    DataError
        If a fit has too few points at different x.
    """
    order = np.argsort(x, kind="stable")
    x_sorted, y_sorted = x[order].astype(np.float64), y[order].astype(np.float64)
    num_near = min(len(x), int(np.floor(len(x) * span + 1e-5)))
    if num_near < 3:
        msg = f"a local regression over {len(x):,} points has {num_near} for a quadratic, which needs 3."
        raise DataError(msg)
    vertices = _vertices(x_sorted, int(np.floor(len(x) * span * _CELL)))
    fits = np.array([_quadratic_at(vertex, x_sorted, y_sorted, num_near) for vertex in vertices])
    return _join(vertices, fits[:, 0], fits[:, 1], np.asarray(x, dtype=np.float64))


def _vertices(x: np.ndarray, enough: int) -> np.ndarray:
    """Return the ends of intervals of at most so many points, ascending; equal points stay together."""
    reach = max(x[-1] - x[0], max(abs(x[0]), abs(x[-1])) * 1e-10 + 1e-30)
    ends = [x[0] - _MARGIN * reach, x[-1] + _MARGIN * reach]
    found, todo = set(ends), [(0, len(x) - 1, ends[0], ends[1])]
    while todo:
        first, last, left, right = todo.pop()
        if last - first + 1 <= enough:
            continue
        middle = _nearest_step(x, first, last)
        cut = x[middle]
        if cut not in (left, right):
            found.add(cut)
            todo += [(first, middle, left, cut), (middle + 1, last, cut, right)]
    return np.array(sorted(found))


def _nearest_step(x: np.ndarray, first: int, last: int) -> int:
    """Return the index nearest to the middle that the next value differs from, the middle if there is none near."""
    middle = (first + last) // 2
    offset = 0
    while first <= middle + offset < last:
        if x[middle + offset] != x[middle + offset + 1]:
            return middle + offset
        offset = -offset if offset > 0 else 1 - offset
    return middle


def _quadratic_at(vertex: float, x: np.ndarray, y: np.ndarray, num_near: int) -> tuple[float, float]:
    """Return value and slope at a vertex of the parabola through the nearest points."""
    distance = np.abs(x - vertex)
    radius = np.partition(distance, num_near - 1)[num_near - 1]
    if not radius > 0:
        msg = f"a local regression has {num_near:,} points at the same place, {vertex:.6g}, and no curve through them."
        raise DataError(msg)
    near = distance < radius
    share = distance[near] / radius
    weights = np.sqrt(np.where(share < 1e-3, 1.0, (1 - share**3) ** 3))
    offset = x[near] - vertex
    columns = np.stack([np.ones_like(offset), offset, offset**2], axis=1) * weights[:, None]
    coefficients = np.linalg.lstsq(columns, y[near] * weights, rcond=1e-13)[0]
    return float(coefficients[0]), float(coefficients[1])


def _join(vertices: np.ndarray, values: np.ndarray, slopes: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the cubic Hermite curve through the vertices at some x."""
    interval = np.clip(np.searchsorted(vertices, x, side="left") - 1, 0, len(vertices) - 2)
    width = vertices[interval + 1] - vertices[interval]
    t = (x - vertices[interval]) / width
    value = (1 - t) ** 2 * (1 + 2 * t) * values[interval] + t**2 * (3 - 2 * t) * values[interval + 1]
    slope = t * (1 - t) ** 2 * slopes[interval] - t**2 * (1 - t) * slopes[interval + 1]
    return np.asarray(value + slope * width)
