"""What is drawn in generation: genes and bins by their scores, at levels that are random numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from scmodelforge._errors import ConfigError
from scmodelforge.data.draws import uniforms

__all__ = ["BinChoice", "Drawing", "draw_levels", "log_prob"]

BinChoice = Literal["sample", "argmax", "mean"]


@dataclass(frozen=True)
class Drawing:
    """How genes and bins are drawn.

    Attributes
    ----------
    temperature
        Divides the scores; 0 takes the most probable always.
    top_k
        So many most probable genes are drawn among; ``None`` for all.
    bins
        Draw the bin, take the most probable, or the rounded mean.

    Raises
    ------
    ConfigError
        If one of them is out of range.
    """

    temperature: float
    top_k: int | None
    bins: BinChoice

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            msg = f"temperature is {self.temperature}; it must be a finite number, 0 or more."
            raise ConfigError(msg)
        if self.top_k is not None and self.top_k < 1:
            msg = f"top_k is {self.top_k}; it must be at least 1, or None for all genes."
            raise ConfigError(msg)
        if self.bins not in ("sample", "argmax", "mean"):
            msg = f"bins is {self.bins!r}; choose one of sample, argmax, mean."
            raise ConfigError(msg)

    def genes(self, scores: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Return a gene for each row of scores, shape (B,)."""
        return _draw(scores, levels, self.temperature, self.top_k)

    def bins_of(self, scores: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Return a bin for each row of scores, shape (B,); never bin 0, which is no expression."""
        scores = torch.cat([torch.full_like(scores[:, :1], float("-inf")), scores[:, 1:]], dim=1)
        if self.bins == "sample":
            return _draw(scores, levels, self.temperature, None)
        if self.bins == "argmax":
            return scores.argmax(dim=1)
        number = torch.arange(scores.shape[1], device=scores.device, dtype=scores.dtype)
        return (scores.softmax(dim=1) @ number).round().long()


def draw_levels(
    num_cells: int, steps: int, generator: torch.Generator | None, keys: torch.Tensor | None
) -> torch.Tensor:
    """Return what decides each draw of a gene and of its bin, shape (B, steps, 2), float64, in [0, 1)."""
    if keys is not None and generator is not None:
        msg = "both generator and keys are given; draws follow from one of them."
        raise ConfigError(msg)
    if keys is None:
        device = None if generator is None else generator.device
        return torch.rand(num_cells, steps, 2, generator=generator, device=device, dtype=torch.float64)
    if keys.shape != (num_cells,) or keys.is_floating_point():
        msg = f"keys are {keys.dtype} of shape {tuple(keys.shape)}, but {num_cells} cells need a whole number each."
        raise ConfigError(msg)
    draws = np.arange(2 * steps).reshape(steps, 2)
    return torch.from_numpy(uniforms(keys.cpu().numpy()[:, None, None], "generate", draws))


def log_prob(scores: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of the chosen column of each row, shape (B,)."""
    return scores.log_softmax(dim=1).gather(1, chosen[:, None])[:, 0]


def _draw(scores: torch.Tensor, levels: torch.Tensor, temperature: float, top_k: int | None) -> torch.Tensor:
    """Draw a column of each row, shape (B,): the one where the sum of probabilities passes the level, shape (B,)."""
    if temperature == 0:
        return scores.argmax(dim=1)
    if top_k is not None and top_k < scores.shape[1]:
        lowest = scores.topk(top_k, dim=1).values[:, -1:]
        scores = scores.masked_fill(scores < lowest, float("-inf"))
    below = (scores - scores.amax(dim=1, keepdim=True)).double() / temperature  # at most 0: none is too low
    passed = below.exp().cumsum(dim=1)
    # The level times the sum can be rounded up to the sum, which no column passes.
    aims = torch.minimum(levels * passed[:, -1], passed[:, -1].nextafter(torch.zeros_like(levels)))
    return torch.searchsorted(passed, aims[:, None], right=True)[:, 0]
