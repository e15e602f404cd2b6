"""Tensors of which every process holds a share: made whole, and cut into shares."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["fill_share", "is_sharded", "read_share", "settle", "whole"]


def is_sharded(tensor: Any) -> bool:
    """Tell whether this process holds only a share of a tensor."""
    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def whole(tensor: Any) -> Any:
    """Return a tensor with the shares of all processes, which all must call this; a plain one as it is."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


@torch.no_grad()
def fill_share(target: torch.Tensor, file: Any, name: str) -> None:
    """Give a tensor the numbers of one in an open safetensors file; of a sharded one, read no more than its share.

    Raises
    ------
    RuntimeError
        If the one in the file has another shape.
    """
    stored = file.get_slice(name)
    if list(target.shape) != stored.get_shape():
        msg = f"{name} has shape {tuple(stored.get_shape())} in the file, {tuple(target.shape)} in the model"
        raise RuntimeError(msg)
    if not is_sharded(target):
        target.copy_(file.get_tensor(name))
        return
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shard: Any = target
    shape, offset = compute_local_shape_and_global_offset(shard.shape, shard.device_mesh, shard.placements)
    if all(shape):
        shard.to_local().copy_(stored[tuple(slice(o, o + size) for o, size in zip(offset, shape, strict=True))])


def read_share(like: torch.Tensor, file: Any, name: str) -> torch.Tensor:
    """Return a tensor of an open safetensors file, cut as ``like`` is and in its place, if they have the same shape."""
    stored = file.get_slice(name)
    if not is_sharded(like) or list(like.shape) != stored.get_shape():
        tensor: torch.Tensor = file.get_tensor(name)
        return tensor
    share = torch.empty_like(like, requires_grad=False)
    fill_share(share, file, name)
    return share


def settle(model: nn.Module) -> None:
    """Give back what a forward pass without a backward pass left whole, so that all parameters are shares again."""
    for module in model.modules():
        give_back = getattr(module, "reshard", None)
        if give_back is not None and hasattr(module, "set_requires_gradient_sync"):
            give_back()
