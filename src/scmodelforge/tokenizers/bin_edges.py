"""Edges of bins that all cells share: quantiles of the values of the training cells, in one pass and bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.types import CellBlock
from scmodelforge.tokenizers.bin_centres import BinCentres, CellTally, Preprocess, make_centres, relative_expression
from scmodelforge.tokenizers.bins import Ties, chosen_bins, edge_bin_bounds
from scmodelforge.tokenizers.entries import Entries

__all__ = ["MOST_DIFFERENT", "EdgeFit", "check_edges", "edges_from"]

#: Different values that are told apart, 36 bytes each; of more, those next to each other are taken together.
MOST_DIFFERENT = 1 << 18


class EdgeFit:
    """Learns edges and the centres of the bins between them from the training cells.

    Bins get equal shares of the values above 0 of all training cells. Edges are exact while there are no more
    different values than ``MOST_DIFFERENT``; beyond, values are told apart by so many leading bits as that allows,
    whatever the order of the cells.

    Parameters
    ----------
    expressed
        Gives the expressed genes of a block of cells.
    n_bins
        Number of bins K.
    ties
        Bin of a value that equals several edges, as in the settings.
    is_train
        Tells of cell positions which are training cells.
    finish
        Takes edges, shape (K - 1,), and centres.
    most
        Different values that are told apart.

    Attributes
    ----------
    preprocess
        What is done to cells before they are binned in training; nothing, unless it is set.
    """

    preprocess: Preprocess | None = None

    def __init__(
        self,
        expressed: Callable[[CellBlock], Entries],
        n_bins: int,
        ties: Ties,
        is_train: Callable[[np.ndarray], np.ndarray],
        finish: Callable[[np.ndarray, BinCentres], None],
        *,
        most: int = MOST_DIFFERENT,
    ) -> None:
        self._expressed, self._is_train, self._finish = expressed, is_train, finish
        self._n_bins, self._ties, self._most = n_bins, ties, most
        self._dropped = 0  # bits at the end of values that are not told apart
        self._keys = np.zeros(0, dtype=np.uint32)  # leading bits of the values, ascending; they rise with the value
        self._counts = np.zeros(0, dtype=np.int64)
        self._sums = np.zeros((2, 0))  # of values as given, and of log(1 + counts per 10,000)
        self._tally = CellTally()

    def update(self, block: CellBlock) -> None:
        """Take a block of cells as their source has them, and of these the ones to learn from."""
        block = block.select(np.flatnonzero(self._is_train(block.positions)))
        entries = self._expressed(block)
        if not len(entries.values):
            return
        shown = entries if self.preprocess is None else self._expressed(self.preprocess(block))
        self._tally.add(entries)
        keys = shown.values.astype(np.float32).view(np.uint32) >> np.uint32(self._dropped)
        sums = np.stack([entries.values, relative_expression(entries, block)])
        self._merge(keys, np.ones(len(keys), dtype=np.int64), sums)
        while len(self._keys) > self._most:
            self._dropped += 1
            held = self._keys >> np.uint32(1), self._counts, self._sums
            self._keys, self._counts, self._sums = self._keys[:0], self._counts[:0], self._sums[:, :0]
            self._merge(*held)

    def finish(self) -> None:
        """Hand edges and centres to the tokenizer.

        Raises
        ------
        DataError
            If no training cell expresses a known gene.
        """
        if self._tally.is_empty:
            msg = (
                "no training cell expresses a gene of the vocabulary, so there are no edges of bins to fit; check "
                "data.gene_vocab and data.split, or set tokenizer.edges."
            )
            raise DataError(msg)
        middle = np.uint32((1 << self._dropped) >> 1)
        values = ((self._keys << np.uint32(self._dropped)) + middle).view(np.float32).astype(np.float64)
        levels = np.arange(self._n_bins - 1) / (self._n_bins - 1)
        edges = _weighted_quantiles(values, self._counts, levels)
        sums = self._sums[["as_given", "log1p_cp10k"].index(self._tally.scale)]
        self._finish(edges, make_centres(*self._in_bins(values, sums, edges), self._tally))

    def _merge(self, keys: np.ndarray, counts: np.ndarray, sums: np.ndarray) -> None:
        """Add values to those that are held."""
        self._keys, places = np.unique(np.concatenate([self._keys, keys]), return_inverse=True)
        number = len(self._keys)
        counted = np.bincount(places, weights=np.concatenate([self._counts, counts]), minlength=number)
        both = np.concatenate([self._sums, sums], axis=1)
        self._counts = counted.astype(np.int64)  # exact: far below 2^53
        self._sums = np.stack([np.bincount(places, weights=row, minlength=number) for row in both])

    def _in_bins(self, values: np.ndarray, sums: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return number and sum of the values in each bin; where bins are drawn, each gets its share."""
        lowest, highest = edge_bin_bounds(values, edges)
        if self._ties != "random":
            lowest = highest = chosen_bins(lowest, highest, self._ties)
        width = highest - lowest + 1
        rows = np.repeat(np.arange(len(values)), width)
        bins = np.arange(len(rows)) - np.repeat(np.cumsum(width) - width, width) + lowest[rows]
        counts, sums = (np.bincount(bins, (of / width)[rows], self._n_bins) for of in (self._counts, sums))
        return counts, sums


def check_edges(edges: list[float], n_bins: int) -> str | None:
    """Return what is wrong with the edges of the settings, ``None`` if nothing."""
    if len(edges) != n_bins - 2:
        return (
            f"edges has {len(edges)} numbers for {n_bins} bins; with that of zero, that below the first edge and that "
            f"above the last, {len(edges)} edges make {len(edges) + 2}: set n_bins to that or give {n_bins - 2} edges"
        )
    if not all(low < high for low, high in zip([0.0, *edges], edges, strict=False)):
        return f"edges are {', '.join(f'{edge:g}' for edge in edges[:6])}; give numbers above 0, each above the last"
    return None


def edges_from(data: Any, n_bins: int) -> np.ndarray | None:
    """Return the edges in the state of a tokenizer, shape (K - 1,), or ``None`` if there are none.

    Raises
    ------
    DataError
        If they are damaged or of another number of bins.
    """
    if data is None:
        return None
    damaged = "state of tokenizer 'binned_expression' is damaged:"
    try:
        edges = np.asarray(data, dtype=np.float64)
    except (TypeError, ValueError) as problem:
        msg = f"{damaged} edges: {problem}; take it as it was saved."
        raise DataError(msg) from problem
    if edges.shape != (n_bins - 1,) or not np.isfinite(edges).all() or (np.diff(edges) < 0).any():
        msg = f"{damaged} edges: not {n_bins - 1} ascending numbers; take it as it was saved."
        raise DataError(msg)
    return edges


def _weighted_quantiles(values: np.ndarray, counts: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return quantiles of values that occur so many times, as ``numpy.quantile`` gives them of all."""
    ends = np.cumsum(counts)
    place = levels * (ends[-1] - 1)
    below = np.floor(place).astype(np.int64)
    low, high = (values[np.searchsorted(ends, at, side="right")] for at in (below, np.minimum(below + 1, ends[-1] - 1)))
    share = place - below
    step = high - low
    edges: np.ndarray = np.where(share >= 0.5, high - step * (1 - share), low + step * share)
    return edges
