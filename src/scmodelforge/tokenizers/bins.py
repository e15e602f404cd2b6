"""Quantile bins of the values of cells, and what the bins mean in expression."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.types import CellBlock
from scmodelforge.tokenizers.entries import Entries

__all__ = ["BinCentres", "BinFit", "Scale", "quantile_bin_bounds"]

Scale = Literal["log1p_cp10k", "as_given"]

_TARGET_SUM = 10_000.0
_LEVELS = np.linspace(0, 1, 101)


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
    place = np.linspace(0, 1, n_bins - 1) * (sizes[filled] - 1)[:, None]  # (cells, K - 1)
    below = np.floor(place).astype(np.int64)
    share = place - below
    low = starts[:, None] + below
    high = np.minimum(low + 1, ends[:, None] - 1)
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


def _interpolated(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Interpolate from the nearer end, as numpy does, so that edges agree with it bit for bit."""
    step = high - low
    return np.where(share >= 0.5, high - step * (1 - share), low + step * share)


@dataclass(frozen=True, slots=True)
class BinCentres:
    """What bins mean in expression, and how many genes cells express: what generated cells are made with.

    Attributes
    ----------
    values
        Mean expression of the values in each bin, shape (K,), float64, ascending; 0 for bin 0.
    scale
        ``log1p_cp10k``, log(1 + counts per 10,000), of data that are counts; else ``as_given``.
    num_genes
        Quantiles of the number of expressed known genes of a cell at levels 0, 0.01, ..., 1, shape (101,).
    """

    values: np.ndarray
    scale: Scale
    num_genes: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"values": self.values.tolist(), "scale": self.scale, "num_genes": self.num_genes.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], n_bins: int) -> Self:
        """Make centres of what :meth:`to_dict` gave.

        Raises
        ------
        DataError
            If they are damaged or of another number of bins.
        """
        damaged = "state of tokenizer 'binned_expression' is damaged:"
        try:
            values = np.asarray(data["values"], dtype=np.float64)
            num_genes = np.asarray(data["num_genes"], dtype=np.float64)
            scale = data["scale"]
        except (KeyError, TypeError, ValueError) as problem:
            msg = f"{damaged} centres: {problem}; take it as it was saved."
            raise DataError(msg) from problem
        if values.shape != (n_bins,):
            msg = f"{damaged} it has centres of {values.size} bins for {n_bins} bins; take it as it was saved."
            raise DataError(msg)
        is_finite = np.isfinite(values).all() and np.isfinite(num_genes).all()
        if num_genes.shape != _LEVELS.shape or not is_finite or scale not in get_args(Scale):
            msg = f"{damaged} centres: not values, scale and num_genes; take it as it was saved."
            raise DataError(msg)
        return cls(values, scale, num_genes)


class BinFit:
    """Learns the centres of bins from the training cells.

    Parameters
    ----------
    binned
        Gives the expressed genes of a block of cells and the bin of each.
    n_bins
        Number of bins K.
    is_train
        Tells of cell positions which are training cells.
    finish
        Takes the centres.
    """

    def __init__(
        self,
        binned: Callable[[CellBlock], tuple[Entries, np.ndarray]],
        n_bins: int,
        is_train: Callable[[np.ndarray], np.ndarray],
        finish: Callable[[BinCentres], None],
    ) -> None:
        self._binned, self._is_train, self._finish = binned, is_train, finish
        self._counts = np.zeros(n_bins)
        self._sums: dict[Scale, np.ndarray] = {"log1p_cp10k": np.zeros(n_bins), "as_given": np.zeros(n_bins)}
        self._cells_with = np.zeros(1, dtype=np.int64)  # cells that express so many genes
        self._is_counts = True

    def update(self, block: CellBlock) -> None:
        """Take a block of cells as their source has them, and of these the ones to learn from."""
        block = block.select(np.flatnonzero(self._is_train(block.positions)))
        entries, bins = self._binned(block)
        if not len(bins):
            return
        self._is_counts = self._is_counts and bool((entries.values == np.rint(entries.values)).all())
        relative = entries.values / block.totals()[entries.cells]
        for scale, values in (("as_given", entries.values), ("log1p_cp10k", np.log1p(relative * _TARGET_SUM))):
            self._sums[scale] += np.bincount(bins, weights=values, minlength=len(self._counts))  # type: ignore[index]
        self._counts += np.bincount(bins, minlength=len(self._counts))
        numbers = np.bincount(entries.cells)
        found = np.bincount(numbers[numbers > 0], minlength=len(self._cells_with))
        found[: len(self._cells_with)] += self._cells_with
        self._cells_with = found

    def finish(self) -> None:
        """Hand the centres to the tokenizer; bins without a value lie between their neighbours."""
        if not self._cells_with.any():
            return
        scale: Scale = "log1p_cp10k" if self._is_counts else "as_given"
        known = np.flatnonzero(self._counts)
        means = self._sums[scale][known] / self._counts[known]
        values = np.interp(np.arange(len(self._counts)), [0, *known], [0.0, *means])
        cells = np.cumsum(self._cells_with)
        num_genes = np.searchsorted(cells, _LEVELS * (cells[-1] - 1), side="right").astype(np.float64)
        self._finish(BinCentres(np.maximum.accumulate(values), scale, num_genes))
