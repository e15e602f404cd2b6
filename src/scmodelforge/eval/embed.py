"""Cell embeddings of a model, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import DataError
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.models.components.packing import always_packed
from scmodelforge.objectives.collate import collate_for_encoding

__all__ = ["embed_batches", "embed_cells", "evaluating", "steady_batch"]

#: Products of matrices of fewer rows are summed up in another order. The libraries of CPUs were seen to do so below
#: 12 rows, on one thread and on two.
_LEAST_CELLS = 16


def embed_cells(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    positions: np.ndarray,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> np.ndarray:
    """Return the embedding of each cell, whatever the order in which batches bring them.

    Parameters
    ----------
    model, device
        Has ``encode``, and where it is. It is put into evaluation mode and back.
    batches
        Collated for encoding: tensors, and ``cell_index`` with the positions of the cells.
    positions
        Positions of the cells wanted, shape (N,), ascending.
    autocast
        Makes the context of the forward pass, as ``fabric.autocast``.

    Returns
    -------
    Shape (N, H), float32, row i for ``positions[i]``; H is as wide as what the model gives.

    Raises
    ------
    DataError
        If the model gives NaN or infinite numbers.
    ValueError
        If the batches lack a cell, or bring one twice or one that was not asked for.
    """
    rows_seen = np.zeros(len(positions), dtype=bool)
    result: np.ndarray | None = None
    for cells, vectors in embed_batches(model, batches, device=device, autocast=autocast):
        if result is None:
            result = np.empty((len(positions), vectors.shape[1]), dtype=np.float32)
        rows = np.searchsorted(positions, cells)
        is_wanted = positions[np.minimum(rows, len(positions) - 1)] == cells
        if not is_wanted.all() or rows_seen[rows].any() or len(np.unique(rows)) < len(rows):
            msg = "the batches bring a cell twice or one that was not asked for; each cell is needed once."
            raise ValueError(msg)
        result[rows] = vectors
        rows_seen[rows] = True
    if result is None or not rows_seen.all():
        missing = positions[~rows_seen]
        msg = f"the batches lack {len(missing):,} of {len(positions):,} cells (the first: {missing[:1].tolist()})."
        raise ValueError(msg)
    return result


def embed_batches(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the positions, shape (B,), and embeddings, shape (B, H), float32, of each batch that has cells.

    The arguments are those of :func:`embed_cells`.

    Raises
    ------
    DataError
        If the model gives NaN or infinite numbers.
    """
    encode: Callable[..., torch.Tensor] = model.encode  # type: ignore[assignment]
    with evaluating(model):
        for batch in batches:
            cells = np.asarray(batch["cell_index"])
            if len(cells) == 0:
                continue
            moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
            with torch.no_grad(), autocast(), ExitStack() as ways:
                if device.type == "cpu":
                    ways.enter_context(always_packed())
                hidden = encode(**moved)[: len(cells)]  # (B, H)
            vectors = hidden.float().cpu().numpy()
            is_bad = ~np.isfinite(vectors).all(axis=1)
            if is_bad.any():
                msg = (
                    f"the model gives NaN or infinite embeddings (the first for cell {cells[is_bad][0]}); "
                    "its training has diverged. Lower training.optimizer.lr, or use an earlier checkpoint."
                )
                raise DataError(msg)
            yield cells, vectors


def steady_batch(tokens: TokenBlock, *, pad_id: int, device: torch.device) -> Batch:
    """Return the batch of some cells for embedding, in which what becomes of a cell does not depend on the others.

    On a CPU, a batch of few cells is filled up with cells of one token. They have no ``cell_index``, by which
    :func:`embed_batches` leaves them out.

    Parameters
    ----------
    tokens
        The cells; may be none.
    pad_id
        Token that fills up shorter cells.
    device
        Where the model is.
    """
    missing = _LEAST_CELLS - len(tokens)
    if device.type != "cpu" or missing <= 0 or not len(tokens):
        return collate_for_encoding(tokens, pad_id=pad_id)
    rest = tokens.select(np.zeros(missing, dtype=np.int64))
    first = rest.offsets[:-1]
    bins = None if rest.bin_ids is None else rest.bin_ids[first]
    rest = replace(rest, offsets=np.arange(missing + 1), ids=rest.ids[first], values=rest.values[first], bin_ids=bins)
    batch = collate_for_encoding(TokenBlock.concatenate([tokens, rest]), pad_id=pad_id)
    batch["cell_index"] = tokens.cell_index
    return batch


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch all modules to evaluation mode, then each back to its own mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
