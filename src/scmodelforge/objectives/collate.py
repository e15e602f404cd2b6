"""From ragged tokens to right-padded tensors."""

from __future__ import annotations

import numpy as np
import torch

from scmodelforge.data.types import Batch, TokenBlock

__all__ = ["collate_for_encoding", "pad", "scatter"]


def pad(tokens: TokenBlock, *, pad_id: int) -> Batch:
    """Lay the tokens of each cell into a row, padded on the right to the longest cell.

    Parameters
    ----------
    tokens
        The cells; may be none.
    pad_id
        Token that fills up ``input_ids`` and ``gene_ids``. Values and bins are filled up with 0.

    Returns
    -------
    ``input_ids``, ``attention_mask`` (int64), ``values``, ``gene_ids``, ``bin_ids`` if the tokens have bins, and on
    the host ``cell_index``, ``lengths``, ``cu_seqlens`` and ``pack_index``. A batch is at least one token long; that
    of no cells has shape (0, 1).
    """
    lengths = tokens.lengths.astype(np.int64)
    shape = (len(tokens), max(int(lengths.max(initial=0)), 1))
    row_starts = np.arange(len(tokens), dtype=np.int64) * shape[1]
    pack_index = np.arange(len(tokens.ids), dtype=np.int64) + np.repeat(row_starts - tokens.offsets[:-1], lengths)
    batch: Batch = {
        "input_ids": scatter(tokens.ids, pack_index, shape, fill=pad_id, dtype=torch.int64),
        "attention_mask": scatter(np.ones(len(pack_index)), pack_index, shape, fill=0, dtype=torch.int64),
        "values": scatter(tokens.values, pack_index, shape, fill=0, dtype=torch.float32),
        "gene_ids": scatter(tokens.ids, pack_index, shape, fill=pad_id, dtype=torch.int64),
        "cell_index": tokens.cell_index,
        "lengths": lengths,
        "cu_seqlens": tokens.offsets.astype(np.int32),
        "pack_index": pack_index,
    }
    if tokens.bin_ids is not None:
        batch["bin_ids"] = scatter(tokens.bin_ids, pack_index, shape, fill=0, dtype=torch.int64)
    return batch


def collate_for_encoding(tokens: TokenBlock, *, pad_id: int) -> Batch:
    """Return the batch of some cells with nothing hidden and nothing to predict, for embedding.

    Parameters
    ----------
    tokens
        The cells; may be none.
    pad_id
        Token that fills up shorter cells.
    """
    return pad(tokens, pad_id=pad_id)


def scatter(
    values: np.ndarray, index: np.ndarray, shape: tuple[int, int], *, fill: int, dtype: torch.dtype
) -> torch.Tensor:
    """Return a tensor of ``fill`` with some values, shape (T,), at the flat places of ``index``, shape (T,)."""
    tensor = torch.full(shape, fill, dtype=dtype)
    tensor.view(-1)[torch.from_numpy(index)] = torch.from_numpy(values).to(dtype)
    return tensor
