"""The parts of a transformer block that ``torch.compile`` makes faster: all that stands before and after attention.

Attention itself is left out. It is one fused kernel in any case, and on packed tokens it depends on the length of each
cell, for which compiled code would be made anew in each step. What is left depends on the number of tokens alone, which
the compiled code takes as a variable, and is the same for all blocks, so it is compiled once. What a loss does to the
targets, whose number differs from step to step, stays outside too.

Where torch gives up, on code that it does not understand or that it had to compile too often, the block goes on as it
is, and that is said.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from scmodelforge.models.components.transformer import TransformerBlock

__all__ = ["around_attention"]

_log = logging.getLogger(__name__)

_Heads = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def around_attention(
    block: TransformerBlock,
    backend: str,
    hidden_states: torch.Tensor,
    *,
    mask: torch.Tensor | None,
    packing: Any = None,
    cache: None = None,
    maps: None = None,
    **attention: Any,
) -> torch.Tensor:
    """Compute a block, compiled before and after attention.

    Parameters
    ----------
    block
        The block.
    backend
        What compiles: a backend of ``torch.compile``.
    hidden_states, mask, packing, cache, maps, attention
        As the block takes them; there can be no cache and no maps.

    Returns
    -------
    What the block returns.
    """
    assert cache is None
    assert maps is None
    if block.attention.is_alone(hidden_states, packing):
        normed = block.before(hidden_states)
        attended = block.attention(normed, mask=mask, **attention)
    else:
        positions = block.attention.positions(hidden_states, packing)
        normed, heads = _compute(_before, backend, block, hidden_states, positions)
        attended = block.attention.attend(heads, mask=mask, packing=packing, **attention)
    out: torch.Tensor = _compute(_after, backend, block, hidden_states, normed, attended)
    return out


def _before(
    block: TransformerBlock, hidden_states: torch.Tensor, positions: torch.Tensor | None
) -> tuple[torch.Tensor, _Heads]:
    normed = block.before(hidden_states)
    return normed, block.attention.project(normed, positions)


def _after(
    block: TransformerBlock, hidden_states: torch.Tensor, normed: torch.Tensor, attended: torch.Tensor
) -> torch.Tensor:
    return block.after(hidden_states, normed, attended)


def _compute(part: Callable[..., Any], backend: str, block: TransformerBlock, *tensors: torch.Tensor | None) -> Any:
    try:
        return _compiled(part, backend)(block, *tensors)
    except Exception as problem:
        why = _why_given_up(problem)
        if why is None:
            raise
        block.compiler = None
        _say(why)
        return part(block, *tensors)


@lru_cache
def _compiled(part: Callable[..., Any], backend: str) -> Callable[..., Any]:
    return torch.compile(part, backend=backend, dynamic=True, fullgraph=True)


@lru_cache
def _say(why: str) -> None:
    """Say so, once."""
    _log.warning(
        f"torch.compile gave up on transformer blocks, which go on uncompiled ({why}); the environment variable "
        "TORCH_LOGS=graph_breaks,recompiles lets torch tell more. If training is no faster, leave training.compile out"
    )


def _why_given_up(problem: Exception) -> str | None:
    """Return why torch did not compile, or ``None`` of an error that is another one."""
    from torch._dynamo.exc import Unsupported, UserError

    # What is raised of this kind has another name, and other bases, in each version of torch.
    if type(problem).__module__.startswith("torch._dynamo") and "Limit" in type(problem).__name__:
        return "it compiled too often"
    if not isinstance(problem, (Unsupported, UserError)):
        return None
    return next((line.strip() for line in str(problem).splitlines() if line.strip()), type(problem).__name__)
