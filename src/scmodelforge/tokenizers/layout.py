"""Where the tokens of cells stand once special tokens are around those of genes."""

from __future__ import annotations

import numpy as np

from scmodelforge.data.measured import row_offsets
from scmodelforge.data.types import TokenBlock

__all__ = ["around", "as_one_cell"]


def around(lengths: np.ndarray, *, num_first: int, num_last: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make room for special tokens before and after the genes of each cell.

    Parameters
    ----------
    lengths
        Genes of each cell, shape (n,), int64.
    num_first, num_last
        Special tokens before and after them.

    Returns
    -------
    Start of each cell's tokens, shape (n + 1,), int64, and place of each gene, shape (E,), int64.
    """
    cells = np.repeat(np.arange(len(lengths)), lengths)
    places = np.arange(len(cells)) + num_first * (cells + 1) + num_last * cells
    return row_offsets(lengths + num_first + num_last), places


def as_one_cell(tokens: TokenBlock) -> dict[str, np.ndarray]:
    """Return a block of one cell as ``tokenize`` of a tokenizer does."""
    ids = tokens.ids.astype(np.int64)
    cell = {"input_ids": ids, "attention_mask": np.ones_like(ids), "values": tokens.values}
    return cell if tokens.bin_ids is None else {**cell, "bin_ids": tokens.bin_ids.astype(np.int64)}
