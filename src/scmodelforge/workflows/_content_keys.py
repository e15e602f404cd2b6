"""Random draws of a tokenizer that depend on what a cell expresses, and not on its place among others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scmodelforge.data.draws import mix
from scmodelforge.data.protocols import BoundEncoder
from scmodelforge.data.types import CellBlock, Panel, TokenBlock
from scmodelforge.data.vocab import GeneVocab

__all__ = ["KeysFromContent", "content_keys"]


@dataclass(frozen=True)
class KeysFromContent:
    """A tokenizer that makes the key of each cell from the cell.

    Attributes
    ----------
    tokenizer
        The tokenizer.
    vocab
        Its vocabulary.
    """

    tokenizer: Any
    vocab: GeneVocab

    def bind(self, panel: Panel) -> _Bound:
        """Return an encoder for blocks of this panel."""
        return _Bound(self.tokenizer.bind(panel), self.vocab.map_panel(panel))


@dataclass(frozen=True)
class _Bound:
    encoder: BoundEncoder
    token_of: np.ndarray

    def encode(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        """Tokenise all cells of a block; the keys given are not looked at."""
        return self.encoder.encode(block, content_keys(block, self.token_of))


def content_keys(block: CellBlock, token_of: np.ndarray) -> np.ndarray:
    """Return a key for each cell, shape (n,), uint64: the same for the same genes at the same values, in any order.

    Parameters
    ----------
    block
        The cells.
    token_of
        Token of each column, shape (G,), negative where the vocabulary has none; such genes do not count.
    """
    tokens = token_of[block.indices]
    bits = block.data.view(np.uint32).astype(np.uint64)
    parts = mix("content", (tokens.astype(np.uint64) << np.uint64(32)) | bits)
    parts[(tokens < 0) | (block.data == 0)] = 0
    ends = np.concatenate([np.zeros(1, np.uint64), np.cumsum(parts, dtype=np.uint64)])  # sums wrap, and still subtract
    return mix("cell", ends[block.indptr[1:]] - ends[block.indptr[:-1]])
