"""From ragged tokens to right-padded tensors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.data._kernels import pad_rows
from scmodelforge.data.types import Batch, TokenBlock

__all__ = ["collate_for_encoding", "pad", "put", "scatter", "with_targets"]


def pad(tokens: TokenBlock, *, pad_id: int) -> Batch:
    """Lay the tokens of each cell into a row, padded on the right to the longest cell.

    Parameters
    ----------
    tokens
        The cells; may be none.
    pad_id
        Token that fills up ``input_ids`` and ``gene_ids``. Values are filled up with what the tokens have for it
        (``pad_value``), bins with 0.

    Returns
    -------
    ``input_ids``, ``attention_mask`` (int64), ``values``, ``gene_ids``, ``bin_ids`` if the tokens have bins, and on
    the host ``cell_index``, ``lengths``, ``cu_seqlens`` and ``pack_index``. A batch is at least one token long; that
    of no cells has shape (0, 1).
    """
    lengths = tokens.lengths.astype(np.int64)
    shape = (len(tokens), max(int(lengths.max(initial=0)), 1))
    is_token = np.arange(shape[1]) < lengths[:, None]

    def padded(values: np.ndarray, fill: float, dtype: type) -> torch.Tensor:
        return torch.from_numpy(pad_rows(values, tokens.offsets, shape[1], fill=fill, dtype=dtype))

    ids = padded(tokens.ids, pad_id, np.int64)
    batch: Batch = {
        "input_ids": ids,
        "attention_mask": torch.from_numpy(is_token.astype(np.int64)),
        "values": padded(tokens.values, tokens.pad_value, np.float32),
        "gene_ids": ids.clone(),
        "cell_index": tokens.cell_index,
        "lengths": lengths,
        "cu_seqlens": tokens.offsets.astype(np.int32),
        "pack_index": np.flatnonzero(is_token),
    }
    if tokens.bin_ids is not None:
        batch["bin_ids"] = padded(tokens.bin_ids, 0, np.int64)
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


def with_targets(tokens: TokenBlock, shown: np.ndarray, is_target: np.ndarray, *, pad_id: int, term: str) -> Batch:
    """Return a batch in which targets are hidden, and what is asked for at them.

    Parameters
    ----------
    tokens
        The cells, targets as they truly are.
    shown
        The ids that stand in the batch, shape (T,).
    is_target
        Which tokens are targets, shape (T,), bool. Their values (by ``tokens.mask_value``) and bins are hidden.
    pad_id
        Token that fills up shorter cells.
    term
        Name of the loss term that the targets count for.

    Returns
    -------
    What :func:`pad` gives, and ``labels``, ``targets``, ``masked_positions``, ``target_index`` and ``num_targets``.
    ``gene_ids`` keeps the true genes.
    """
    bins = None if tokens.bin_ids is None else np.where(is_target, 0, tokens.bin_ids)
    values = np.where(is_target, np.float32(tokens.mask_value), tokens.values)
    batch = pad(replace(tokens, ids=shown, values=values, bin_ids=bins), pad_id=pad_id)
    where = np.flatnonzero(is_target)
    target_index, shape = batch["pack_index"][where], (len(tokens), batch["input_ids"].shape[1])
    put(batch["gene_ids"], target_index, tokens.ids[where])
    batch["labels"] = scatter(tokens.ids[where], target_index, shape, fill=IGNORE_INDEX, dtype=torch.int64)
    batch["targets"] = scatter(tokens.values[where], target_index, shape, fill=0, dtype=torch.float32)
    batch["masked_positions"] = scatter(is_target[where], target_index, shape, fill=0, dtype=torch.bool)
    batch["target_index"] = target_index
    batch["num_targets"] = {term: len(where)}
    return batch


def scatter(
    values: np.ndarray, index: np.ndarray, shape: tuple[int, int], *, fill: int, dtype: torch.dtype
) -> torch.Tensor:
    """Return a tensor of ``fill`` with some values, shape (T,), at the flat places of ``index``, shape (T,)."""
    tensor = torch.full(shape, fill, dtype=dtype)
    put(tensor, index, values)
    return tensor


def put(tensor: torch.Tensor, index: np.ndarray, values: np.ndarray) -> None:
    """Write some values, shape (T,), to the flat places of ``index``, shape (T,), of a tensor."""
    tensor.view(-1)[torch.from_numpy(index)] = torch.from_numpy(values).to(tensor.dtype)
