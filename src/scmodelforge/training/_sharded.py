"""Tensors of which every process holds a share: made whole, and cut into shares."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["is_sharded", "settle", "share_of", "whole"]


def is_sharded(tensor: Any) -> bool:
    """Tell whether this process holds only a share of a tensor."""
    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def whole(tensor: Any) -> Any:
    """Return a tensor with the shares of all processes, which all must call this; a plain one as it is."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def share_of(full: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return this process's share of a whole tensor, cut as ``like`` is and in its place; no process is asked."""
    if not is_sharded(like):
        return full
    from torch.distributed.tensor import distribute_tensor

    shard: Any = like
    moved = full.to(shard.device)
    return distribute_tensor(moved, shard.device_mesh, shard.placements, src_data_rank=None)


def settle(model: nn.Module) -> None:
    """Give back what a forward pass without a backward pass left whole, so that all parameters are shares again."""
    for module in model.modules():
        give_back = getattr(module, "reshard", None)
        if give_back is not None and hasattr(module, "set_requires_gradient_sync"):
            give_back()
