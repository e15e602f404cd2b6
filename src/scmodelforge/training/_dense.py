"""Cells as rows of a dense matrix over chosen genes, as the models of scvi-tools take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from scmodelforge.data._entries import PanelGenes
from scmodelforge.data.protocols import BoundEncoder
from scmodelforge.data.types import CellBlock, Panel, TokenBlock
from scmodelforge.data.vocab import GeneVocab

__all__ = ["DenseBatches", "GeneValues"]


@dataclass(frozen=True)
class GeneValues:
    """Encodes cells as their values in the genes of a vocabulary: the number of each gene, from 0, and its value.

    Attributes
    ----------
    vocab
        The genes. Columns with the same gene are summed.
    """

    vocab: GeneVocab

    def bind(self, panel: Panel) -> BoundEncoder:
        """Return an encoder for blocks of a file."""
        return _OfPanel(PanelGenes.of(panel, self.vocab))


@dataclass(frozen=True)
class _OfPanel:
    genes: PanelGenes

    def encode(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        entries = self.genes.entries(block)
        lengths = np.bincount(entries.cells, minlength=len(block))
        return TokenBlock(
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            ids=entries.genes.astype(np.int32),
            values=entries.values.astype(np.float32),
            cell_index=block.positions,
            keys=keys,
        )


@dataclass(frozen=True)
class DenseBatches:
    """Makes batches of what :class:`GeneValues` encoded.

    Attributes
    ----------
    num_genes
        Genes of the vocabulary.
    codes
        Codes of all cells of the source by the name they have in a batch, each shape (N,), integers.
    """

    num_genes: int
    codes: dict[str, np.ndarray]

    def __call__(self, tokens: TokenBlock) -> dict[str, torch.Tensor]:
        """Return ``X``, shape (B, G), float32, and the codes and ``ind_x``, the cells' positions, (B, 1), int64."""
        x = np.zeros((len(tokens), self.num_genes), dtype=np.float32)
        x[np.repeat(np.arange(len(tokens)), tokens.lengths), tokens.ids] = tokens.values
        columns = {name: codes[tokens.cell_index] for name, codes in self.codes.items()} | {"ind_x": tokens.cell_index}
        batch = {name: torch.from_numpy(column.astype(np.int64)[:, None]) for name, column in columns.items()}
        return {"X": torch.from_numpy(x), **batch}
