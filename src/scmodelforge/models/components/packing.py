"""Real tokens of a batch without the padding, so that layers compute nothing for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Literal

import torch
import torch.nn.functional as F

__all__ = ["Kernel", "Packing", "always_packed", "is_always_packed", "packed_kernel"]

#: How packed tokens attend: one fused call for each cell, or one for all of them, which NVIDIA GPUs have.
Kernel = Literal["cell by cell", "all cells"]

#: Share of padding from which on packing pays for its copies.
_LEAST_PADDING = 1 / 16
_least_padding = ContextVar("least_padding", default=_LEAST_PADDING)
#: Widest head, and oldest compute capability, that the kernel for all cells takes.
_WIDEST_HEAD, _OLDEST_GPU = 256, (8, 0)


@contextmanager
def always_packed() -> Iterator[None]:
    """Pack without regard to what is less work, so that what becomes of a cell does not depend on those beside it."""
    before = _least_padding.set(0.0)
    try:
        yield
    finally:
        _least_padding.reset(before)


def is_always_packed() -> bool:
    """Tell whether this is within :func:`always_packed`."""
    return not torch.compiler.is_compiling() and _least_padding.get() == 0.0


def packed_kernel(states: torch.Tensor, *, is_plain: bool, dropout: float, head_dim: int) -> Kernel | None:
    """Return how packed tokens would attend where these hidden states are, or ``None`` if they have to be padded.

    Parameters
    ----------
    states
        Hidden states.
    is_plain
        Whether every token sees its whole cell, and nothing is done to scores that fused kernels do not do.
    dropout
        Dropout on the attention weights.
    head_dim
        Width of the heads, what a bias of keys adds included.
    """
    if torch.compiler.is_compiling():
        return None
    if states.device.type == "cpu":
        return "cell by cell"
    kind = states.device.type
    has_autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if has_autocast else states.dtype
    is_half = dtype in (torch.bfloat16, torch.float16)
    fits = is_plain and not dropout and is_half and head_dim <= _WIDEST_HEAD
    return "all cells" if fits and _has_kernel(states.device) else None


@lru_cache
def _has_kernel(device: torch.device) -> bool:
    if device.type != "cuda" or torch.version.hip or find_spec("torch.nn.attention.varlen") is None:
        return False
    return torch.cuda.get_device_capability(device) >= _OLDEST_GPU


@dataclass(frozen=True)
class Packing:
    """Where the real tokens of a batch are.

    Attributes
    ----------
    index
        Place of each real token among all positions of the batch, cell after cell, shape (T,).
    positions
        Place of each in its cell, shape (T,).
    lengths
        Real tokens of each cell that has some.
    shape
        Cells and positions of the batch.
    masks
        For each of these cells which of its tokens see which, in a shape that broadcasts to (heads, L, L), bool or
        added to the scores; ``None`` where all see all.
    kernel
        How they attend.
    """

    index: torch.Tensor
    positions: torch.Tensor
    lengths: tuple[int, ...]
    shape: tuple[int, int]
    masks: tuple[torch.Tensor, ...] | None = None
    kernel: Kernel = "cell by cell"

    @classmethod
    def of(
        cls,
        attention_mask: torch.Tensor | None,
        mask: torch.Tensor | None = None,
        *,
        kernel: Kernel | None = "cell by cell",
    ) -> Packing | None:
        """Return where the real tokens are, or ``None`` where computing the padding too is no more work.

        Parameters
        ----------
        attention_mask
            1 for real tokens and 0 for padding, shape (B, S).
        mask
            Which query may see which key; broadcasts to (B, heads, S, S).
        kernel
            What :func:`packed_kernel` says.
        """
        if attention_mask is None or kernel is None:
            return None
        is_real = attention_mask != 0
        num_real = is_real.sum(dim=1)
        if not 0 < int(num_real.sum()) <= (1 - _least_padding.get()) * is_real.numel():
            return None
        cells, positions = is_real.nonzero(as_tuple=True)
        lengths = tuple(length for length in num_real.tolist() if length)
        masks = None
        if mask is not None:
            size = is_real.shape[1]
            pairs = mask[(None,) * (4 - mask.ndim)].expand(len(is_real), -1, size, size)
            masks = tuple(
                pairs[cell][..., at, :][..., at]
                for cell, at in zip(cells.unique_consecutive().tolist(), positions.split(lengths), strict=True)
            )
        shape = (is_real.shape[0], is_real.shape[1])
        return cls(cells * shape[1] + positions, positions, lengths, shape, masks, kernel)

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """Return the real tokens of a tensor of shape (B, S, ...), shape (T, ...)."""
        return padded.flatten(0, 1).index_select(0, self.index)

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """Return a tensor of shape (B, S, ...) with the real tokens at their places, and 0 at padding."""
        empty = packed.new_zeros(self.shape[0] * self.shape[1], *packed.shape[1:])
        return empty.index_copy(0, self.index, packed).unflatten(0, self.shape)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        dropout_p: float,
        scale: float,
        within: Callable[..., torch.Tensor] = F.scaled_dot_product_attention,
        key_bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Let the tokens of each cell attend to each other.

        Parameters
        ----------
        query, key, value
            Heads of the real tokens, shape (heads, T, D).
        dropout_p, scale
            As of ``scaled_dot_product_attention``. The kernel for all cells has no dropout.
        within
            What attends in one cell, called as that is; the kernel for all cells does not ask it.
        key_bias
            Handed on to what attends, if that takes it, shape (T,).

        Returns
        -------
        Shape (heads, T, D).
        """
        if self.kernel == "all cells":
            return self._attend_at_once(query, key, value, scale=scale)
        parts = zip(*(each.split(self.lengths, dim=1) for each in (query, key, value)), strict=True)
        biases = None if key_bias is None else key_bias.split(self.lengths)
        mixed = []
        for number, (own_query, own_key, own_value) in enumerate(parts):
            mask = None if self.masks is None else self.masks[number][None]
            options = {} if biases is None else {"key_bias": biases[number][None]}
            parts_of_cell = (own_query[None], own_key[None], own_value[None])
            mixed.append(within(*parts_of_cell, attn_mask=mask, dropout_p=dropout_p, scale=scale, **options)[0])
        return torch.cat(mixed, dim=1)

    def _attend_at_once(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scale: float
    ) -> torch.Tensor:
        from torch.nn.attention.varlen import varlen_attn

        ends = torch.tensor((0, *self.lengths), dtype=torch.int32).cumsum(0, dtype=torch.int32)
        starts, longest = ends.to(query.device, non_blocking=True), max(self.lengths)
        query, key, value = (each.transpose(0, 1).contiguous() for each in (query, key, value))  # (T, heads, D)
        mixed = varlen_attn(query, key, value, starts, starts, longest, longest, scale=scale)
        assert isinstance(mixed, torch.Tensor)
        return mixed.transpose(0, 1)
