"""The genes of cells in an order that tells nothing of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scmodelforge.data.draws import mix
from scmodelforge.data.types import TokenBlock

__all__ = ["in_random_order"]


def in_random_order(tokens: TokenBlock, is_special: np.ndarray) -> TokenBlock:
    """Return the cells with their genes in a random order, special tokens first.

    Parameters
    ----------
    tokens
        The cells. The order depends on their keys and genes, not on the order they are given in.
    is_special
        Which tokens are special ones, shape (T,), bool.
    """
    cells = np.repeat(np.arange(len(tokens)), tokens.lengths)
    draws = mix("gene order", np.repeat(tokens.keys, tokens.lengths), tokens.ids)
    draws[is_special] = 0
    order = np.lexsort((draws, cells))
    bins = None if tokens.bin_ids is None else tokens.bin_ids[order]
    return replace(tokens, ids=tokens.ids[order], values=tokens.values[order], bin_ids=bins)
