"""Which tokens of a cell are hidden, which gene is asked for there, and the visible ones gathered."""

from __future__ import annotations

import math

import torch

from scmodelforge.constants import IGNORE_INDEX, PAD_TOKEN, SPECIAL_TOKENS

__all__ = ["asked_genes", "gather_visible", "hidden_positions", "place_codes"]

_PAD_ID = SPECIAL_TOKENS.index(PAD_TOKEN)


def hidden_positions(
    masked_positions: torch.Tensor | None, labels: torch.Tensor | None, is_real: torch.Tensor
) -> torch.Tensor:
    """Return which tokens are hidden, shape (B, S), bool: those said to be, else those with a label, else none."""
    if masked_positions is not None:
        return (masked_positions != 0) & is_real
    if labels is not None:
        return (labels != IGNORE_INDEX) & is_real
    return torch.zeros_like(is_real)


def gather_visible(is_visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the visible tokens of each cell stand, in their order.

    Parameters
    ----------
    is_visible
        Shape (B, S), bool.

    Returns
    -------
    Places, shape (B, W) with W the most visible tokens of a cell and at least 1, and which of them are visible ones,
    bool: a cell with fewer has other places at its end.
    """
    counts = is_visible.sum(dim=1)  # (B,)
    width = max(1, int(counts.max())) if len(counts) else 1
    index = (~is_visible).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    return index, torch.arange(width, device=index.device) < counts[:, None]


def asked_genes(
    input_ids: torch.Tensor, gene_ids: torch.Tensor | None, labels: torch.Tensor | None, *, is_hidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the gene of every position, shape (B, S), and where it is known, bool (``None``: everywhere).

    At hidden positions it is ``gene_ids``, else a label, else unknown; ``input_ids`` is not read there.
    """
    if gene_ids is not None:
        return torch.where(is_hidden, gene_ids, input_ids), None
    visible = input_ids.masked_fill(is_hidden, _PAD_ID)
    if labels is None:
        return visible, ~is_hidden
    is_named = is_hidden & (labels != IGNORE_INDEX)
    return torch.where(is_named, labels, visible), ~is_hidden | is_named


def place_codes(length: int, width: int, device: torch.device) -> torch.Tensor:
    """Return sinusoidal codes of places, shape (length, width): Vaswani et al. 2017, arXiv:1706.03762."""
    place = torch.arange(length, device=device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000.0) / width))
    codes = torch.zeros(length, width, device=device)
    codes[:, 0::2] = torch.sin(place * rate)
    codes[:, 1::2] = torch.cos(place * rate)[:, : width // 2]
    return codes
