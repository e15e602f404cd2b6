"""Which cells are trained on, and which genes are common enough to have a token.

The meaning is that of scanpy's ``filter_cells`` and ``filter_genes``: totals and expressed genes of a cell are over all
genes of its file, a gene counts as expressed where its value is above 0, and a cell or gene exactly at a limit stays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scmodelforge.config.preprocessing import PreprocessingConfig
from scmodelforge.data._entries import PanelGenes
from scmodelforge.data.types import CellBlock
from scmodelforge.data.vocab import GeneVocab

__all__ = ["CellLimits", "ExpressingCells"]


class CellLimits:
    """The limits on total and number of expressed genes of each cell.

    Parameters
    ----------
    config
        The settings.

    Attributes
    ----------
    limits
        Name and value of each limit that is set, in the order in which they are tried.
    """

    def __init__(self, config: PreprocessingConfig) -> None:
        limits = {
            "min_counts_per_cell": config.min_counts_per_cell,
            "max_counts_per_cell": config.max_counts_per_cell,
            "min_genes_per_cell": config.min_genes_per_cell,
            "max_genes_per_cell": config.max_genes_per_cell,
        }
        self.limits = [(name, limit) for name, limit in limits.items() if limit is not None]

    def broken(self, block: CellBlock) -> np.ndarray:
        """Return the number, in ``limits``, of the first limit each cell breaks, shape (n,), int64; -1 for none."""
        found = np.full(len(block), -1, dtype=np.int64)
        if not self.limits:
            return found
        totals = block.totals()
        expressed = np.concatenate([[0], np.cumsum(block.data > 0)])
        num_genes = expressed[block.indptr[1:]] - expressed[block.indptr[:-1]]
        for number, (name, limit) in enumerate(self.limits):
            measured = totals if "counts" in name else num_genes
            is_broken = measured < limit if name.startswith("min") else measured > limit
            found[is_broken & (found < 0)] = number
        return found

    def describe(self, broken: np.ndarray) -> str:
        """Return how many cells break each limit, in words.

        Parameters
        ----------
        broken
            The limit each cell that was left out broke, shape (n,).
        """
        times = np.bincount(broken, minlength=len(self.limits))
        parts = [
            f"{count:,} by {name} ({limit:,})" for (name, limit), count in zip(self.limits, times, strict=True) if count
        ]
        return ", ".join(parts)


class ExpressingCells:
    """Counts the cells that express each gene of a vocabulary; a visitor of a scan.

    Columns of a file with the same gene are summed first.

    Parameters
    ----------
    vocab
        The genes.
    rows
        Tells of cell positions, shape (n,), which take part, shape (n,), bool.

    Attributes
    ----------
    counts
        Cells that express each gene, shape (V,), int64.
    """

    def __init__(self, vocab: GeneVocab, rows: Callable[[np.ndarray], np.ndarray]) -> None:
        self.counts = np.zeros(len(vocab.genes), dtype=np.int64)
        self._vocab, self._rows = vocab, rows
        self._panels: dict[int, PanelGenes] = {}

    def update(self, block: CellBlock) -> None:
        """Add the cells of a block."""
        block = block.select(np.flatnonzero(self._rows(block.positions)))
        panel = self._panels.setdefault(id(block.panel), PanelGenes.of(block.panel, self._vocab))
        entries = panel.entries(block)
        self.counts += np.bincount(entries.genes[entries.values > 0], minlength=len(self.counts))
