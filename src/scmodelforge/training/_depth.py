"""How deep each parameter of a model lies: what lower learning rates for lower layers go by."""

from __future__ import annotations

from torch import nn

__all__ = ["block_prefixes", "num_blocks", "parameter_depths"]


def parameter_depths(model: nn.Module) -> dict[str, int]:
    """Return the depth of each parameter: 0 below the first block, n in the n-th block, one more above the last.

    Blocks are the items of the module lists of a model, in the order in which it registered them, where all items of
    a list have parameters of the same shapes. What stands between two lists belongs to the block before it. A tied
    parameter has the depth of its first place.

    Parameters
    ----------
    model
        The bare model.

    Returns
    -------
    Depths by parameter name. Without any block all are 0.
    """
    blocks = block_prefixes(model)
    above = len(blocks) + 1
    depths: dict[str, int] = {}
    reached = 0
    for name, _ in model.named_parameters():
        own = next((depth for depth, prefix in enumerate(blocks, start=1) if name.startswith(prefix)), None)
        reached = own if own is not None else reached
        depths[name] = reached if own is not None or reached < len(blocks) else above
    return depths if blocks else dict.fromkeys(depths, 0)


def num_blocks(model: nn.Module) -> int:
    """Return how many blocks :func:`parameter_depths` finds."""
    return len(block_prefixes(model))


def block_prefixes(model: nn.Module) -> list[str]:
    """Return the beginnings of the names of the parameters of each block; blocks within blocks are left out."""
    found: list[str] = []
    for path, module in model.named_modules():
        is_list = isinstance(module, nn.ModuleList) and _is_alike(module)
        if is_list and not any(f"{path}.".startswith(block) for block in found):
            found += [f"{path}.{number}." for number in range(len(module))]
    return found


def _is_alike(blocks: nn.ModuleList) -> bool:
    shapes = [[parameter.shape for parameter in block.parameters()] for block in blocks]
    return bool(shapes) and bool(shapes[0]) and all(each == shapes[0] for each in shapes)
