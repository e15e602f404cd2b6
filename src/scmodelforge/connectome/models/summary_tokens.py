"""The CLS tokens of a pair: learned, or made from where its regions are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from scmodelforge._errors import ConfigError

__all__ = ["SummaryTokens"]

_INITS = ("random", "spatial")
_NUMBERS = 6


class SummaryTokens(nn.Module):
    """Tokens from six numbers each, through a linear layer for each of them.

    The six numbers are learned (``random``), or the coordinates of both regions, standardised for each axis by
    constants (``spatial``).

    Parameters
    ----------
    d_model
        Width H of a token.
    num_tokens
        Number of tokens k.
    init
        ``random`` or ``spatial``, for all tokens or one for each.

    Raises
    ------
    ConfigError
        (a ``ValueError``) If there is no such way.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    reads_places: torch.Tensor

    def __init__(self, d_model: int, num_tokens: int, init: str | Sequence[str]) -> None:
        super().__init__()
        inits = [init] * num_tokens if isinstance(init, str) else list(init)
        if len(inits) != num_tokens or any(each not in _INITS for each in inits):
            msg = (
                f"cls_init is {init!r}; 'random' or 'spatial' is needed, or a list of one for each of the {num_tokens} "
                "CLS tokens."
            )
            raise ConfigError(msg)
        self.num_tokens, self.d_model = num_tokens, d_model
        self.is_spatial = "spatial" in inits
        self.projection = nn.Linear(_NUMBERS, num_tokens * d_model)
        self.learned = nn.Parameter(0.02 * torch.randn(_NUMBERS)) if "random" in inits else None
        self.register_buffer("reads_places", torch.tensor([each == "spatial" for each in inits]), persistent=False)
        if self.is_spatial:
            self.register_buffer("mean", torch.zeros(3))
            self.register_buffer("scale", torch.ones(3))

    def standardise_by(self, coords: torch.Tensor | None) -> None:
        """Take the mean and standard deviation of each axis over some regions, shape (R, 3)."""
        if self.is_spatial and coords is not None:
            self.mean.copy_(coords.mean(dim=0))
            spread = coords.std(dim=0, correction=0)
            self.scale.copy_(torch.where(spread > 0, spread, 1))

    def forward(self, coords: torch.Tensor | None, count: int) -> torch.Tensor:
        """Return the tokens of pairs, shape (B, k, H).

        Parameters
        ----------
        coords
            Coordinates of both regions, shape (B, 6); not looked at unless :attr:`is_spatial`.
        count
            Number of pairs B.
        """
        if not self.is_spatial:
            return self._own(self.learned).expand(count, -1, -1)
        assert coords is not None
        placed = self._own((coords - self.mean.repeat(2)) / self.scale.repeat(2))
        if self.learned is None:
            return placed
        return torch.where(self.reads_places[:, None], placed, self._own(self.learned))

    def _own(self, numbers: torch.Tensor | None) -> torch.Tensor:
        """Return what each token makes of six numbers, (..., 6) to (..., k, H)."""
        assert numbers is not None
        return self.projection(numbers).unflatten(-1, (self.num_tokens, self.d_model))
