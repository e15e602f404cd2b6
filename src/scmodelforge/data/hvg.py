"""Highly variable genes, chosen in one pass over cells that never stand in memory together.

The formulas are in :mod:`scmodelforge.data._variability`. ``seurat_v3`` clips counts at a limit that is known only
after all cells were seen; so the pass counts how often each gene has each count, from which anything follows exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.data._entries import GeneEntries, PanelGenes
from scmodelforge.data._value_counts import ValueCounts
from scmodelforge.data._variability import (
    best_by_dispersion,
    best_by_rank,
    normalised_variance,
    scaled_dispersion,
    standardised_dispersion,
)
from scmodelforge.data.types import CellBlock
from scmodelforge.data.vocab import GeneVocab

__all__ = ["HighlyVariable"]


class HighlyVariable:
    """Choose highly variable genes among those of a vocabulary; a visitor of a scan over the cells.

    Values are counts (``seurat_v3``), counts divided by the cell's total over all genes of its file, times
    ``target_sum`` (``seurat``), or log(1 + these) (``cell_ranger``). Columns of a file with the same gene are summed
    first. A file that lacks a gene says nothing about it: the gene's mean and variance are over the cells of the files
    that have it. Genes that no file has are not chosen.

    Parameters
    ----------
    vocab
        The genes to choose from.
    n
        How many to choose.
    flavor
        ``seurat``, ``cell_ranger`` or ``seurat_v3``.
    batches
        Batch of every cell of the source, shape (N,), integer codes, -1 where missing. Genes are then judged in each
        batch; cells without one are a batch too, and one of fewer than 2 cells says nothing.
    rows
        Tells of cell positions, shape (n,), which take part, shape (n,), bool; ``None`` takes all cells.
    target_sum
        Total of each cell.
    """

    def __init__(
        self,
        vocab: GeneVocab,
        n: int,
        *,
        flavor: str = "seurat",
        batches: np.ndarray | None = None,
        rows: Callable[[np.ndarray], np.ndarray] | None = None,
        target_sum: float = 10_000.0,
    ) -> None:
        self.num_cells = 0
        self._vocab, self._n, self._flavor = vocab, n, flavor
        self._batches, self._rows, self._target_sum = batches, rows, target_sum
        self._panels: dict[int, PanelGenes] = {}
        self._sums: dict[int, _Moments | ValueCounts] = {}
        self._cells: dict[int, dict[int, int]] = {}  # of each batch, how many of each panel

    def update(self, block: CellBlock) -> None:
        """Add the cells of a block."""
        if self._rows is not None:
            block = block.select(np.flatnonzero(self._rows(block.positions)))
        if not len(block):
            return
        panel = id(block.panel)
        if panel not in self._panels:
            self._panels[panel] = PanelGenes.of(block.panel, self._vocab)
        self.num_cells += len(block)
        for batch, part in self._by_batch(block):
            if batch not in self._sums:
                size = len(self._vocab.genes)
                self._sums[batch] = ValueCounts(size) if self._flavor == "seurat_v3" else _Moments(size)
            entries = self._panels[panel].entries(part)
            self._sums[batch].add(entries.genes, self._values(part, entries))
            cells = self._cells.setdefault(batch, {})
            cells[panel] = cells.get(panel, 0) + len(part)

    def moments(self, batch: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return cells, mean and variance (with n - 1) of each gene of the vocabulary in a batch, each of shape (V,).

        Cells are those of the files that have the gene; mean and variance are NaN where these are too few.
        """
        cells = np.zeros(len(self._vocab.genes))
        for panel, number in self._cells.get(batch, {}).items():
            genes = self._panels[panel].genes
            cells[np.unique(genes[genes >= 0])] += number
        sums, squares = self._sums[batch].sums() if batch in self._sums else (cells, cells)
        mean = np.full(len(cells), np.nan)
        np.divide(sums, cells, out=mean, where=cells > 0)
        variance = np.full(len(cells), np.nan)
        np.divide(squares - cells * mean**2, cells - 1, out=variance, where=cells > 1)
        return cells, mean, np.maximum(variance, 0.0)

    def select(self, among: np.ndarray | None = None) -> list[str]:
        """Return the ids of the chosen genes, in the vocabulary's order.

        By dispersion in one batch, genes that tie with the last one are all chosen, as scanpy does, so that there may
        be a few more than ``n``.

        Parameters
        ----------
        among
            Which genes may be chosen and are compared, shape (V,), bool; ``None`` takes all.

        Raises
        ------
        ConfigError
            If fewer than ``n`` genes vary.
        """
        allowed = np.ones(len(self._vocab.genes), dtype=bool) if among is None else among
        batches = sorted(batch for batch, cells in self._cells.items() if sum(cells.values()) > 1)
        scores = [self._scores(batch, allowed) for batch in batches]
        varies = [~np.isnan(score) & ((score > 0) | (self._flavor != "seurat_v3")) for score in scores]
        num_varying = int(np.count_nonzero(np.any(varies, axis=0))) if scores else 0
        if num_varying < self._n:
            msg = (
                f"data.preprocessing.hvg_selection is {self._n:,}, but only {num_varying:,} genes of gene_vocab "
                f"'{self._vocab.name}' vary over the {self.num_cells:,} cells; lower it."
            )
            raise ConfigError(msg)
        if self._flavor == "seurat_v3":
            best = best_by_rank(scores, self._n)
        else:
            best = best_by_dispersion(scores, [self.moments(batch)[1] == 0 for batch in batches], self._n)
        return [self._vocab.genes[i] for i in best]

    def _by_batch(self, block: CellBlock) -> Iterator[tuple[int, CellBlock]]:
        if self._batches is None:
            yield 0, block
            return
        codes = self._batches[block.positions]
        for batch in np.unique(codes):
            yield int(batch), block.select(np.flatnonzero(codes == batch))

    def _values(self, block: CellBlock, entries: GeneEntries) -> np.ndarray:
        if self._flavor == "seurat_v3":
            return entries.values
        totals = block.totals()
        factors = np.divide(self._target_sum, totals, out=np.zeros_like(totals), where=totals > 0)
        values = entries.values * factors[entries.cells]
        return np.log1p(values) if self._flavor == "cell_ranger" else values

    def _scores(self, batch: int, allowed: np.ndarray) -> np.ndarray:
        """Return how variable each gene is in a batch, shape (V,), NaN where this is not known."""
        cells, mean, variance = self.moments(batch)
        score = np.full(len(cells), np.nan)
        seen = allowed & (cells > 1)
        sums = self._sums[batch]
        if isinstance(sums, ValueCounts):
            genes = np.flatnonzero(seen)
            if len(genes):
                score[genes] = self._variances(cells[genes], mean[genes], variance[genes], genes, sums)
            return score
        if self._batches is not None:  # as scanpy: genes that no cell of the batch expresses take no part
            seen &= mean > 0
        formula = scaled_dispersion if self._flavor == "cell_ranger" else standardised_dispersion
        if seen.any():
            score[seen] = formula(mean[seen], variance[seen])
        return score

    def _variances(
        self, cells: np.ndarray, mean: np.ndarray, variance: np.ndarray, genes: np.ndarray, counts: ValueCounts
    ) -> np.ndarray:
        try:
            return normalised_variance(cells, mean, variance, genes, counts)
        except DataError as problem:
            where = "" if self._batches is None else ", in one of the batches of data.preprocessing.hvg_batch_column"
            msg = (
                f"data.preprocessing.hvg_flavor 'seurat_v3' cannot tell how variance depends on the mean{where}: "
                f"{problem} Set data.preprocessing.hvg_flavor to 'seurat'."
            )
            raise ConfigError(msg) from problem


class _Moments:
    """Sums and sums of squares of each gene."""

    def __init__(self, num_genes: int) -> None:
        self._sums = np.zeros(num_genes)
        self._squares = np.zeros(num_genes)

    def add(self, genes: np.ndarray, values: np.ndarray) -> None:
        self._sums += np.bincount(genes, weights=values, minlength=len(self._sums))
        self._squares += np.bincount(genes, weights=values * values, minlength=len(self._sums))

    def sums(self) -> tuple[np.ndarray, np.ndarray]:
        return self._sums, self._squares
