"""Which genes of a cell are hidden: each by itself, or stretches of genes of similar expression."""

from __future__ import annotations

import numpy as np

from scmodelforge.config.schema import MaskingConfig
from scmodelforge.data.draws import uniforms
from scmodelforge.data.types import TokenBlock

__all__ = ["hidden_genes", "hiding_draws"]


def hiding_draws(tokens: TokenBlock) -> np.ndarray:
    """Return what decides whether a token is hidden, shape (T,), in [0, 1): a draw for each cell and gene."""
    return uniforms(np.repeat(tokens.keys, tokens.lengths), "mask", tokens.ids)


def hidden_genes(tokens: TokenBlock, is_gene: np.ndarray, masking: MaskingConfig) -> np.ndarray:
    """Return which tokens are hidden, shape (T,), bool: of the genes a share of ``mask_ratio`` on average.

    Parameters
    ----------
    tokens
        The cells.
    is_gene
        Which tokens are genes, shape (T,), bool; others are never hidden.
    masking
        Settings.
    """
    draws = hiding_draws(tokens)
    if masking.mode != "span":
        return is_gene & (draws < masking.mask_ratio)
    return _in_spans(tokens, is_gene, draws, ratio=masking.mask_ratio, length=masking.span_length)


def _in_spans(tokens: TokenBlock, is_gene: np.ndarray, draws: np.ndarray, *, ratio: float, length: float) -> np.ndarray:
    """Hide stretches of the genes of each cell in the order of their expression.

    From the highest gene to the lowest a hidden gene is followed by a visible one with probability ``leave`` and a
    visible one by a hidden one with probability ``enter``, such that a share of ``ratio`` is hidden at every rank:
    lengths of stretches are geometric, and neither end of a cell is hidden more often than its middle.
    """
    cells = np.repeat(np.arange(len(tokens)), tokens.lengths)
    genes = np.flatnonzero(is_gene)
    order = genes[np.lexsort((tokens.ids[genes], -tokens.values[genes], cells[genes]))]
    draw, cell = draws[order], cells[order]
    leave = min(1 / length, 1 - ratio)
    enter = leave * ratio / (1 - ratio) if ratio < 1 else 1.0
    # A draw below `enter` hides whatever came before and one from 1 - leave on shows; between, it stays as it was.
    is_first = np.diff(cell, prepend=-1) != 0
    is_hidden = draw < np.where(is_first, ratio, enter)
    decides = is_first | is_hidden | (draw >= 1 - leave)
    last = np.maximum.accumulate(np.where(decides, np.arange(len(order)), 0))
    found = np.zeros(len(tokens.ids), dtype=bool)
    found[order] = is_hidden[last]
    return found
