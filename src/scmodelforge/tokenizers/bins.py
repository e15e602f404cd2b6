"""Bins of the values of cells: by quantiles of each cell, by edges that all cells share, or of equal width.

Only the first are scGPT's (Cui et al. 2024, doi:10.1038/s41592-024-02201-0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from scmodelforge._errors import DataError

__all__ = [
    "Ties",
    "chosen_bins",
    "edge_bin_bounds",
    "levels_of",
    "quantile_bin_bounds",
    "quantile_edges",
    "scgpt_bins",
    "width_bin_bounds",
]

Ties = Literal["mid", "lower", "upper", "random"]


def scgpt_bins(
    values: np.ndarray, n_bins: int = 51, *, uniforms: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Bin the values of one cell as scGPT does, for given random numbers.

    Parameters
    ----------
    values
        Values of the cell, none negative, shape (G,). 0 stays in bin 0.
    n_bins
        Number of bins K, that of zero included.
    uniforms
        A number of [0, 1) for each value above 0, in their order, by which a value that equals several edges gets one
        of the bins it may have. ``None`` gives each the highest one.

    Returns
    -------
    The bins, shape (G,), int64, and the edges with 0 before them, shape (K,), float64, all 0 if no value is above 0.

    Raises
    ------
    DataError
        If a value is negative or not a number, or the number of random numbers is not that of the values above 0.
    """
    values = np.asarray(values, dtype=np.float64)
    if not (np.isfinite(values) & (values >= 0)).all():
        msg = (
            f"a value to bin is {values[~(np.isfinite(values) & (values >= 0))][0]}; give finite values, none below 0."
        )
        raise DataError(msg)
    expressed = np.flatnonzero(values)
    if uniforms is not None and np.shape(uniforms) != expressed.shape:
        msg = f"{np.size(uniforms):,} random numbers for {len(expressed):,} values above 0; give one for each of these."
        raise DataError(msg)
    bins, edges = np.zeros(len(values), dtype=np.int64), np.zeros(n_bins)
    if len(expressed):
        cells = np.zeros(len(expressed), dtype=np.int64)
        lowest, highest = quantile_bin_bounds(cells, values[expressed], 1, n_bins)
        bins[expressed] = highest if uniforms is None else chosen_bins(lowest, highest, "random", uniforms)
        ordered, starts = np.sort(values[expressed]), np.zeros(1, dtype=np.int64)
        edges[1:] = quantile_edges(ordered, starts, np.array([len(ordered)]), n_bins)[0]
    return bins, edges


def chosen_bins(lowest: np.ndarray, highest: np.ndarray, ties: Ties, uniforms: np.ndarray | None = None) -> np.ndarray:
    """Return one of the bins that each value may have, shape (E,), int64.

    Parameters
    ----------
    lowest, highest
        The first and last of them, shape (E,), int64.
    ties
        Which: the middle one, the first, the last, or by a random number.
    uniforms
        Numbers of [0, 1), shape (E,), where they are drawn.
    """
    if ties == "lower":
        return lowest
    if ties == "upper":
        return highest
    if ties == "mid":
        return -(-(lowest + highest) // 2)
    assert uniforms is not None
    # The largest numbers below 1 round to the bin below the lowest.
    return np.maximum(lowest, np.ceil(uniforms * (lowest - 1 - highest) + highest).astype(np.int64))


def levels_of(method: str, n_bins: int) -> np.ndarray:
    """Return levels of the quantiles, or shares of the largest value, that edges are at, shape (K - 1,), float64."""
    return np.linspace(0, 1, n_bins - 1) if method == "quantile" else np.arange(n_bins - 1) / (n_bins - 1)


def edge_bin_bounds(values: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest bin that each value may have between edges that all cells share.

    Bin k begins at edge k; values below all edges are in bin 1. A value that equals several edges has a choice.

    Parameters
    ----------
    values
        Values above 0, shape (E,), float64.
    edges
        Shape (K - 1,), float64, ascending.

    Returns
    -------
    Bins from 1 to K - 1, each of shape (E,), int64.
    """
    highest = np.maximum(np.searchsorted(edges, values, side="right"), 1)
    return np.minimum(np.searchsorted(edges, values, side="left") + 1, highest), highest


def width_bin_bounds(
    cells: np.ndarray, values: np.ndarray, num_cells: int, n_bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bin of each value among bins of equal width from 0 to the largest value of its cell, twice.

    The arguments are those of :func:`quantile_bin_bounds`. A value on an edge is in the bin above it.
    """
    largest = np.zeros(num_cells)
    np.maximum.at(largest, cells, values)
    largest, levels = largest[cells], levels_of("uniform", n_bins)
    # By division the bin may be one off: edges are compared as they are.
    bins = np.clip((values / largest * (n_bins - 1)).astype(np.int64) + 1, 1, n_bins - 1)
    bins += (bins < n_bins - 1) & (largest * levels[np.minimum(bins, n_bins - 2)] <= values)
    bins -= largest * levels[bins - 1] > values
    return bins, bins


def quantile_edges(ordered: np.ndarray, starts: np.ndarray, sizes: np.ndarray, n_bins: int) -> np.ndarray:
    """Return the edges of cells: quantiles of their values, as ``numpy.quantile`` gives them, shape (n, K - 1).

    Parameters
    ----------
    ordered
        Values of all cells, ascending within each, shape (E,), float64.
    starts, sizes
        Where each cell's begin, and how many they are, at least one, shape (n,), int64.
    n_bins
        Number of bins K.
    """
    low, high, share = _places(starts, sizes, n_bins)
    return _interpolated(ordered[low], ordered[high], share)


def quantile_bin_bounds(
    cells: np.ndarray, values: np.ndarray, num_cells: int, n_bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest bin that each value may have.

    The edges of a cell are K - 1 quantiles of its values at evenly spread levels from 0 to 1, with linear
    interpolation as ``numpy.quantile`` does it, in double precision. A value's highest bin is the number of edges that
    are at most the value, the lowest one more than the number of edges below it (Cui et al. 2024,
    doi:10.1038/s41592-024-02201-0).

    Parameters
    ----------
    cells
        Number of the cell of each value, shape (E,), ascending.
    values
        Values above 0, shape (E,), float64.
    num_cells
        Number of cells n.
    n_bins
        Number of bins K, that of zero included.

    Returns
    -------
    Bins from 1 to K - 1, each of shape (E,), int64.
    """
    if not len(values):
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing
    order = np.lexsort((values, cells))
    ordered = values[order]
    sizes = np.bincount(cells, minlength=num_cells)
    filled = np.flatnonzero(sizes)
    starts = (np.cumsum(sizes) - sizes)[filled]
    ends = starts + sizes[filled]

    # Where the edges lie among the ordered values. No value needs to be compared with all edges then.
    low, high, share = _places(starts, sizes[filled], n_bins)
    edges = _interpolated(ordered[low], ordered[high], share)

    is_first = np.ones(len(ordered), dtype=bool)
    is_first[1:] = (np.diff(ordered) != 0) | (np.diff(cells) != 0)
    firsts = np.append(np.flatnonzero(is_first), len(ordered))
    group = np.cumsum(is_first) - 1  # values of a cell that are equal
    first, after = firsts[group], firsts[group + 1]

    def counts(reaches: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """Count for each ordered value the edges it reaches: those whose first such value is at or before it."""
        begin = np.where(
            reaches(ordered[low], edges), first[low], np.where(reaches(ordered[high], edges), first[high], after[high])
        )
        begin = begin[begin < ends[:, None]]
        total = np.cumsum(np.bincount(begin, minlength=len(ordered)))
        before = np.concatenate([[0], total])[starts]
        return total - np.repeat(before, sizes[filled])

    highest = counts(np.greater_equal)
    lowest = np.minimum(counts(np.greater) + 1, highest)
    found = np.empty((2, len(values)), dtype=np.int64)
    found[:, order] = lowest, highest
    return found[0], found[1]


def _places(starts: np.ndarray, sizes: np.ndarray, n_bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values before and after each edge, by their places, and the way between, each shape (n, K - 1)."""
    place = levels_of("quantile", n_bins) * (sizes - 1)[:, None]
    below = np.floor(place).astype(np.int64)
    low = starts[:, None] + below
    return low, np.minimum(low + 1, (starts + sizes)[:, None] - 1), place - below


def _interpolated(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Interpolate from the nearer end, as numpy does, so that edges agree with it bit for bit."""
    step = high - low
    return np.where(share >= 0.5, high - step * (1 - share), low + step * share)
