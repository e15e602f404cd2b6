"""Rotary position embedding: queries and keys turned by an angle that grows with the position.

Su et al. 2021, arXiv:2104.09864. Component i of the first half of a head and component i of the second half make a
pair that is turned by position x base^(-2 i / D), so that scores depend on the distance of two tokens only.
"""

from __future__ import annotations

import torch
from torch import nn

from scmodelforge._errors import ConfigError

__all__ = ["RotaryEmbedding"]


class RotaryEmbedding(nn.Module):
    """Turns the heads of queries and keys. It has no weights.

    Parameters
    ----------
    width
        Width D of a head; even.
    base
        How slowly the slowest pair turns.

    Raises
    ------
    ConfigError
        If the width is odd.
    """

    def __init__(self, width: int, *, base: float = 10_000.0) -> None:
        super().__init__()
        if width % 2:
            msg = (
                f"model.positions is 'rotary', which needs heads of an even width, but model.hidden_dim over "
                f"model.num_heads is {width}; change one of them."
            )
            raise ConfigError(msg)
        self._width, self._base = width, base

    def forward(self, heads: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Turn heads, shape (..., S, D), of tokens at the given positions, shape (S,)."""
        half = self._width // 2
        rates = self._base ** (-torch.arange(half, device=heads.device, dtype=torch.float32) / half)
        angles = positions.to(torch.float32)[:, None] * rates
        cosine, sine = angles.cos().to(heads.dtype), angles.sin().to(heads.dtype)  # (S, D / 2)
        first, second = heads[..., :half], heads[..., half:]
        return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
