"""Highly variable genes, chosen in one pass over cells that never stand in memory together.

Satija et al. 2015, doi:10.1038/nbt.3192, as scanpy's ``flavor="seurat"`` has it: genes are ranked by their dispersion
(variance over mean of counts per 10,000), standardised among genes of similar mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge.data.types import CellBlock, Panel
from scmodelforge.data.vocab import GeneVocab

__all__ = ["HighlyVariable", "standardised_dispersion"]

_NUM_BINS = 20
_TINY_MEAN = 1e-12


class HighlyVariable:
    """Choose highly variable genes among those of a vocabulary; a visitor of a scan over the cells.

    Values are counts divided by the cell's total over all genes of its file, times ``target_sum``. Columns of a file
    with the same gene are summed first. A file that lacks a gene says nothing about it: the gene's mean and variance
    are over the cells of the files that have it. Genes that no file has are not chosen.

    Parameters
    ----------
    vocab
        The genes to choose from.
    n
        How many to choose.
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
        rows: Callable[[np.ndarray], np.ndarray] | None = None,
        target_sum: float = 10_000.0,
    ) -> None:
        self.num_cells = 0
        self._vocab = vocab
        self._n = n
        self._rows = rows
        self._target_sum = target_sum
        self._sums = np.zeros(len(vocab.genes))
        self._squares = np.zeros(len(vocab.genes))
        self._files: dict[int, _File] = {}

    def update(self, block: CellBlock) -> None:
        """Add the cells of a block."""
        if self._rows is not None:
            block = block.select(np.flatnonzero(self._rows(block.positions)))
        if not len(block):
            return
        if id(block.panel) not in self._files:
            self._files[id(block.panel)] = _File.of(block.panel, self._vocab)
        file = self._files[id(block.panel)]
        file.num_cells += len(block)
        self.num_cells += len(block)
        totals = block.totals()
        factors = np.divide(self._target_sum, totals, out=np.zeros_like(totals), where=totals > 0)
        lengths = np.diff(block.indptr)
        genes = file.genes[block.indices]
        cells = np.repeat(np.arange(len(block)), lengths)
        values = block.data.astype(np.float64) * np.repeat(factors, lengths)
        known = genes >= 0
        cells, genes, values = cells[known], genes[known], values[known]
        if file.has_repeats:
            keys, slot = np.unique(cells * len(self._sums) + genes, return_inverse=True)
            genes, values = keys % len(self._sums), np.bincount(slot, weights=values)
        self._sums += np.bincount(genes, weights=values, minlength=len(self._sums))
        self._squares += np.bincount(genes, weights=values * values, minlength=len(self._sums))

    def moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return cells, mean and variance (with n - 1) of each gene of the vocabulary, each of shape (V,).

        Cells are those of the files that have the gene; mean and variance are NaN where these are too few.
        """
        cells = np.zeros(len(self._sums))
        for file in self._files.values():
            cells[np.unique(file.genes[file.genes >= 0])] += file.num_cells
        mean = np.full(len(cells), np.nan)
        np.divide(self._sums, cells, out=mean, where=cells > 0)
        variance = np.full(len(cells), np.nan)
        np.divide(self._squares - cells * mean**2, cells - 1, out=variance, where=cells > 1)
        return cells, mean, np.maximum(variance, 0.0)

    def select(self) -> list[str]:
        """Return the ids of the chosen genes, in the vocabulary's order.

        Genes that tie with the last one are all chosen, as scanpy does, so that there may be a few more than ``n``.

        Raises
        ------
        ConfigError
            If fewer than ``n`` genes have a dispersion.
        """
        cells, mean, variance = self.moments()
        seen = np.flatnonzero(cells > 1)
        score = np.full(len(cells), -np.inf)
        if len(seen):
            score[seen] = np.nan_to_num(standardised_dispersion(mean[seen], variance[seen]), nan=-np.inf)
        num_scored = int(np.count_nonzero(np.isfinite(score)))
        if num_scored < self._n:
            msg = (
                f"data.preprocessing.hvg_selection is {self._n:,}, but only {num_scored:,} genes of gene_vocab "
                f"'{self._vocab.name}' vary over the {self.num_cells:,} cells; lower it."
            )
            raise ConfigError(msg)
        cutoff = np.sort(score)[-self._n]
        return [self._vocab.genes[i] for i in np.flatnonzero(score >= cutoff)]


def standardised_dispersion(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return each gene's log dispersion as a z-score among genes of similar mean, shape (G,).

    Genes fall into 20 bins of equal width in log(1 + mean). A gene alone in its bin gets 1; one that does not vary,
    or whose bin does not, gets NaN.

    Parameters
    ----------
    mean, variance
        Of normalised counts, shape (G,).
    """
    import pandas as pd

    mean = np.where(mean == 0, _TINY_MEAN, mean)
    dispersion = variance / mean
    table = pd.DataFrame({"dispersion": np.log(np.where(dispersion == 0, np.nan, dispersion))})
    groups = table["dispersion"].groupby(pd.cut(np.log1p(mean), bins=_NUM_BINS), observed=True)
    average, spread = groups.transform("mean"), groups.transform("std")
    is_alone = (groups.transform("count") == 1) & table["dispersion"].notna()
    score = ((table["dispersion"] - average) / spread).mask(is_alone, 1.0)
    return np.asarray(score, dtype=np.float64)


@dataclass(slots=True)
class _File:
    """A panel, the number of each of its genes in the vocabulary (-1 where none), and its cells seen so far."""

    panel: Panel  # held so that its id, by which it is found, stays its own
    genes: np.ndarray
    has_repeats: bool
    num_cells: int = 0

    @classmethod
    def of(cls, panel: Panel, vocab: GeneVocab) -> _File:
        tokens = vocab.map_panel(panel).astype(np.int64)
        known = tokens[tokens >= 0]
        genes = np.where(tokens >= 0, tokens - len(vocab.special_tokens), -1)
        return cls(panel, genes, has_repeats=len(np.unique(known)) < len(known))
