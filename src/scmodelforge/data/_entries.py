"""The values of a block of cells by gene of a vocabulary, columns with the same gene summed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scmodelforge.data.types import CellBlock, Panel
from scmodelforge.data.vocab import GeneVocab

__all__ = ["GeneEntries", "PanelGenes"]


class GeneEntries(NamedTuple):
    """Values of known genes, one for each cell and gene that has any.

    Attributes
    ----------
    cells
        Number of the cell in its block, shape (E,), int64.
    genes
        Number of the gene in the vocabulary, special tokens not counted, shape (E,), int64.
    values
        Shape (E,), float64.
    """

    cells: np.ndarray
    genes: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, slots=True)
class PanelGenes:
    """What the columns of a file are in a vocabulary.

    Attributes
    ----------
    panel
        The file's genes; held so that its id, by which it is found, stays its own.
    genes
        Number of each column's gene in the vocabulary, -1 where it has none, shape (G,), int64.
    has_repeats
        Whether two columns have the same gene.
    """

    panel: Panel
    genes: np.ndarray
    has_repeats: bool

    @classmethod
    def of(cls, panel: Panel, vocab: GeneVocab) -> PanelGenes:
        """Look up the genes of a file."""
        tokens = vocab.map_panel(panel).astype(np.int64)
        known = tokens[tokens >= 0]
        genes = np.where(tokens >= 0, vocab.gene_numbers[tokens], -1)
        return cls(panel, genes, has_repeats=len(np.unique(known)) < len(known))

    def entries(self, block: CellBlock) -> GeneEntries:
        """Return the values of known genes of cells of this file, in order of cells."""
        genes = self.genes[block.indices]
        known = np.flatnonzero(genes >= 0)
        cells = np.repeat(np.arange(len(block)), np.diff(block.indptr))[known]
        genes, values = genes[known], block.data[known].astype(np.float64)
        if not self.has_repeats:
            return GeneEntries(cells, genes, values)
        width = int(self.genes.max()) + 1
        keys, slot = np.unique(cells * width + genes, return_inverse=True)
        return GeneEntries(keys // width, keys % width, np.bincount(slot, weights=values))
