"""From the code of a pair of regions to its connectivity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["BilinearTerm", "PairHead", "PlaceCode"]

_WIDENED = 4  # layers in between, beside the code of a place
_SIDE = 0.3  # of the number that tells the hemisphere; coordinates are about 1


class PairHead(nn.Module):
    """Layers of linear, ReLU, batch norm and dropout, then a linear one to a number that is not bounded.

    Parameters
    ----------
    width
        Width of the code.
    hidden_dims
        Widths of the layers.
    dropout
        Dropout after each.
    """

    def __init__(self, width: int, hidden_dims: Sequence[int], dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for hidden in hidden_dims:
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.BatchNorm1d(hidden), nn.Dropout(dropout)]
            width = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Predict: codes, shape (B, C), to (B,)."""
        return self.layers(codes)[:, 0]


class BilinearTerm(nn.Module):
    """What a pair is worth by products of the codes of its regions, each number of one with each of the other.

    Layers on codes one beside another learn products only from many regions; a brain has few.

    Parameters
    ----------
    width
        Width C of the code of a region.
    is_symmetric
        Whether the regions may be swapped: weights are then averaged with their transpose.
    """

    def __init__(self, width: int, *, is_symmetric: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(width) / width)  # regions alike first
        self.is_symmetric = is_symmetric

    def forward(self, codes: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the term of pairs of rows of codes, shape (U, C), to (B,)."""
        weight = (self.weight + self.weight.T) / 2 if self.is_symmetric else self.weight
        return ((codes @ weight)[first] * codes[second]).sum(dim=1)


class PlaceCode(nn.Module):
    """A code of where a region is: layers on its coordinates, with the hemispheres folded onto one.

    A region and its twin in the other hemisphere are connected alike, which few places do not tell; the side is one
    more number, small beside the others. All coordinates are divided by one constant of the data set, so that distances
    count alike along all axes.

    Parameters
    ----------
    width
        Width of the code.
    """

    centre: torch.Tensor
    spread: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(3))
        self.register_buffer("spread", torch.ones(()))
        wide = _WIDENED * width
        self.layers = nn.Sequential(
            nn.Linear(4, wide), nn.GELU(), nn.Linear(wide, wide), nn.GELU(), nn.Linear(wide, width)
        )

    def standardise_by(self, coords: torch.Tensor) -> None:
        """Take the middle of all regions, shape (R, 3), folded, and the standard deviation around it over all axes."""
        folded = _folded(coords)
        self.centre.copy_(folded.mean(dim=0))
        spread = (folded - self.centre).square().mean().sqrt()
        self.spread.copy_(torch.where(spread > 0, spread, 1))

    def forward(self, coords: torch.Tensor) -> torch.Tensor:
        """Return the codes of places, shape (U, 3), to (U, width)."""
        sides = _SIDE * coords[:, :1].sign()
        return self.layers(torch.cat([(_folded(coords) - self.centre) / self.spread, sides], dim=1))


def _folded(coords: torch.Tensor) -> torch.Tensor:
    return torch.cat([coords[:, :1].abs(), coords[:, 1:]], dim=1)
