"""FLOPs of a model on a batch: those of matrix products on real tokens, two for each multiplication and addition.

A linear layer has 2 FLOPs for each weight and row; attention 4 x width x length^2 in each layer and cell, masked or not
(Chowdhery et al. 2022, arXiv:2204.02311, appendix B). Norms, activations and look-ups count nothing, and neither does
padding, nor what is computed twice to save memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models.components.attention import MultiHeadAttention
from scmodelforge.models.components.heads import TiedLinear

__all__ = ["Parts", "forward_flops"]

#: Parts of a model by name, and how many rows of each cell they compute on: its real ``tokens``, those that are
#: ``visible``, these and one more (``seen``), its ``targets``, or a number.
Parts = Iterable[tuple[str, str | int]]


def forward_flops(model: nn.Module, parts: Parts, batch: dict[str, Any]) -> int:
    """Return the FLOPs of one pass forward.

    Parameters
    ----------
    model
        The model.
    parts
        What it computes; a part that is computed several times is named so often. Parts it does not have are none.
    batch
        A batch on the host.
    """
    named = dict(model.named_modules())
    return sum(_flops_of(named[name], _rows(batch, rows)) for name, rows in parts if name in named)


def _rows(batch: dict[str, Any], rows: str | int) -> torch.Tensor:
    """Return the rows of each cell, shape (B,), int64."""
    is_real = batch["attention_mask"] != 0
    if isinstance(rows, int):
        return torch.full((len(is_real),), rows)
    if rows == "targets":
        return (batch["labels"] != IGNORE_INDEX).sum(dim=1) if "labels" in batch else torch.zeros(len(is_real)).long()
    if rows in ("visible", "seen") and "masked_positions" in batch:
        is_real = is_real & (batch["masked_positions"] == 0)
    return is_real.sum(dim=1) + int(rows == "seen")


def _flops_of(part: nn.Module, rows: torch.Tensor) -> int:
    num_rows, num_pairs = int(rows.sum()), int(rows.square().sum())
    is_alone = int(rows.max()) <= 1 if len(rows) else True
    flops = 0
    for module in part.modules():
        if isinstance(module, nn.Linear | TiedLinear):
            flops += 2 * module.weight.numel() * num_rows
        elif isinstance(module, MultiHeadAttention):
            if is_alone:  # a token that sees nothing but itself has no use for queries and keys
                flops -= 2 * (module.q.weight.numel() + module.k.weight.numel()) * num_rows
            else:
                flops += 4 * module.num_heads * module.head_dim * num_pairs
    return flops
