"""What is drawn of cells: genes and bins by their scores, at levels that are random numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from scmodelforge._errors import ConfigError
from scmodelforge.data.draws import uniforms

__all__ = ["BinChoice", "Drawing", "bin_table", "draw_levels", "gene_levels", "log_prob"]

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

    def bins_of(self, scores: torch.Tensor, levels: torch.Tensor, *, first: int = 1) -> torch.Tensor:
        """Return a bin for each row of scores, shape (B,), ``first`` or a later one: bin 0 is no expression."""
        scores = torch.cat([torch.full_like(scores[:, :first], float("-inf")), scores[:, first:]], dim=1)
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
    _check_keys(num_cells, generator, keys)
    if keys is None:
        device = None if generator is None else generator.device
        return torch.rand(num_cells, steps, 2, generator=generator, device=device, dtype=torch.float64)
    draws = np.arange(2 * steps).reshape(steps, 2)
    return torch.from_numpy(uniforms(keys.cpu().numpy()[:, None, None], "generate", draws))


def gene_levels(genes: torch.Tensor, generator: torch.Generator | None, keys: torch.Tensor | None) -> torch.Tensor:
    """Return what decides the draw of each gene of each cell, shape (B, S), float64, in [0, 1).

    It follows from the cell's key, which ``generator`` draws where there is none, and from the gene, and from nothing
    else: not from the place of the gene, nor from how many there are.
    """
    _check_keys(len(genes), generator, keys)
    if keys is None:
        device = None if generator is None else generator.device
        keys = torch.randint(2**63 - 1, (len(genes),), generator=generator, device=device)
    return torch.from_numpy(uniforms(keys.cpu().numpy()[:, None], "fill", genes.cpu().numpy()))


def bin_table(given: torch.Tensor | None, n_bins: int) -> torch.Tensor:
    """Return the value of each bin, shape (K,), float32: those given, or the bin's number over K - 1."""
    if given is None:
        return torch.arange(n_bins) / (n_bins - 1)
    if len(given) != n_bins:
        msg = f"bin_values has {len(given)} values, but the model has {n_bins} bins (model.n_bins)."
        raise ConfigError(msg)
    return given.float()


def log_prob(scores: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of the chosen column of each row, shape (B,)."""
    return scores.log_softmax(dim=1).gather(1, chosen[:, None])[:, 0]


def _check_keys(num_cells: int, generator: torch.Generator | None, keys: torch.Tensor | None) -> None:
    if keys is None:
        return
    if generator is not None:
        msg = "both generator and keys are given; draws follow from one of them."
        raise ConfigError(msg)
    if keys.shape != (num_cells,) or keys.is_floating_point():
        msg = f"keys are {keys.dtype} of shape {tuple(keys.shape)}, but {num_cells} cells need a whole number each."
        raise ConfigError(msg)


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
