"""What bins mean in expression, learned from the training cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.types import CellBlock
from scmodelforge.tokenizers.entries import Entries

__all__ = ["BinCentres", "BinFit", "CellTally", "Preprocess", "Scale", "make_centres", "relative_expression"]

Scale = Literal["log1p_cp10k", "as_given"]
Preprocess = Callable[[CellBlock], CellBlock]

_TARGET_SUM = 10_000.0
_LEVELS = np.linspace(0, 1, 101)


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


class CellTally:
    """What is counted of cells whatever their bins: how many genes they express, and whether values are counts."""

    def __init__(self) -> None:
        self._cells_with = np.zeros(1, dtype=np.int64)  # cells that express so many genes
        self._is_counts = True

    def add(self, entries: Entries) -> None:
        """Count the cells of a block."""
        self._is_counts = self._is_counts and bool((entries.values == np.rint(entries.values)).all())
        numbers = np.bincount(entries.cells)
        found = np.bincount(numbers[numbers > 0], minlength=len(self._cells_with))
        found[: len(self._cells_with)] += self._cells_with
        self._cells_with = found

    @property
    def is_empty(self) -> bool:
        """Whether there was no cell that expresses a gene."""
        return not self._cells_with.any()

    @property
    def scale(self) -> Scale:
        """What centres are in: counts per 10,000 can be told of counts only."""
        return "log1p_cp10k" if self._is_counts else "as_given"

    def num_genes(self) -> np.ndarray:
        """Return quantiles of the number of expressed genes of a cell, shape (101,), float64."""
        cells = np.cumsum(self._cells_with)
        return np.searchsorted(cells, _LEVELS * (cells[-1] - 1), side="right").astype(np.float64)


def relative_expression(entries: Entries, block: CellBlock) -> np.ndarray:
    """Return log(1 + counts per 10,000) of the entries of a block of counts, shape (E,), float64."""
    return np.log1p(entries.values / block.totals()[entries.cells] * _TARGET_SUM)


def make_centres(counts: np.ndarray, sums: np.ndarray, tally: CellTally) -> BinCentres:
    """Return centres of how much there is in each bin; bins without a value lie between their neighbours.

    Parameters
    ----------
    counts, sums
        Number and sum of the values in each bin, shape (K,), float64.
    tally
        What else was counted.
    """
    known = np.flatnonzero(counts)
    values = np.interp(np.arange(len(counts)), [0, *known], [0.0, *(sums[known] / counts[known])])
    return BinCentres(np.maximum.accumulate(values), tally.scale, tally.num_genes())


class BinFit:
    """Learns the centres of bins from the training cells.

    Parameters
    ----------
    expressed
        Gives the expressed genes of a block of cells.
    bins_of
        Gives the bin of each expressed gene of a block of cells.
    n_bins
        Number of bins K.
    is_train
        Tells of cell positions which are training cells.
    finish
        Takes the centres.

    Attributes
    ----------
    preprocess
        What is done to cells before they are binned in training; nothing, unless it is set.
    """

    preprocess: Preprocess | None = None

    def __init__(
        self,
        expressed: Callable[[CellBlock], Entries],
        bins_of: Callable[[Entries, CellBlock], np.ndarray],
        n_bins: int,
        is_train: Callable[[np.ndarray], np.ndarray],
        finish: Callable[[BinCentres], None],
    ) -> None:
        self._expressed, self._bins_of, self._is_train, self._finish = expressed, bins_of, is_train, finish
        self._counts = np.zeros(n_bins)
        self._sums: dict[Scale, np.ndarray] = {"log1p_cp10k": np.zeros(n_bins), "as_given": np.zeros(n_bins)}
        self._tally = CellTally()

    def update(self, block: CellBlock) -> None:
        """Take a block of cells as their source has them, and of these the ones to learn from."""
        block = block.select(np.flatnonzero(self._is_train(block.positions)))
        entries = self._expressed(block)
        if not len(entries.values):
            return
        shown = entries if self.preprocess is None else self._expressed(self.preprocess(block))
        bins, number = self._bins_of(shown, block), len(self._counts)
        self._tally.add(entries)
        self._sums["as_given"] += np.bincount(bins, weights=entries.values, minlength=number)
        self._sums["log1p_cp10k"] += np.bincount(bins, weights=relative_expression(entries, block), minlength=number)
        self._counts += np.bincount(bins, minlength=number)

    def finish(self) -> None:
        """Hand the centres to the tokenizer."""
        if not self._tally.is_empty:
            self._finish(make_centres(self._counts, self._sums[self._tally.scale], self._tally))
