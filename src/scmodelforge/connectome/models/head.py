"""From the code of a pair of regions to its connectivity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["BilinearTerm", "PairHead", "PlaceCode"]

_FEW = 4  # products of all regions for each one that is asked for
_LENGTHS = (0.5, 1.0)  # over which a place counts, in standard deviations of places: about 15 and 30 mm of a brain
_REACH = 2.5  # of the bumps from the middle, in the same unit; farther away nothing is said of a place
_GAP = 1.1  # of bumps, in lengths
_HEIGHT = math.sqrt((2 * _GAP**2 / math.pi) ** 1.5 / len(_LENGTHS))  # so that the squares of all are 1 together
_SIDE = 0.1  # of the number that tells the hemisphere


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
    start
        What the product of two codes is worth at the start; ``None`` for their mean product.
    """

    def __init__(self, width: int, *, is_symmetric: bool, start: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(width) * (1 / width if start is None else start))  # regions alike first
        self.is_symmetric = is_symmetric

    def forward(self, codes: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the term of pairs of rows of codes, shape (U, C), to (B,)."""
        weight = (self.weight + self.weight.T) / 2 if self.is_symmetric else self.weight
        if len(codes) ** 2 <= _FEW * len(first):  # most pairs of the regions are asked for: none is gathered
            return (codes @ weight @ codes.T)[first, second]
        return ((codes @ weight)[first] * codes[second]).sum(dim=1)


class PlaceCode(nn.Module):
    """A code of where a region is: the smoothest functions of place that tell training regions apart.

    A place is read by bumps on a grid, of two widths, so that what is learned of it counts for those around it and for
    no others. Products of the bumps of two places are a Gaussian of their distance; the code is the principal
    components of the bumps over the regions of training, unscaled, so that smoother functions are larger and are
    learned first. Nothing of it is learned by gradients: places are few.

    The hemispheres are folded onto one, since a region and its twin in the other one are connected alike, and the side
    is one more number, small beside the others. All coordinates are divided by one constant, so that distances count
    alike along all axes.

    Parameters
    ----------
    width
        Width of the code; no more numbers than training regions differ from 0.
    """

    centre: torch.Tensor
    spread: torch.Tensor
    components: torch.Tensor
    is_fitted: torch.Tensor
    bumps: torch.Tensor
    lengths: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        grids = [_grid(length) for length in _LENGTHS]
        self.register_buffer("bumps", torch.cat(grids), persistent=False)
        sizes = torch.tensor([len(grid) for grid in grids])
        self.register_buffer("lengths", torch.tensor(_LENGTHS).repeat_interleave(sizes), persistent=False)
        self.register_buffer("centre", torch.zeros(3))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("components", torch.zeros(len(self.bumps) + 1, width))
        self.register_buffer("is_fitted", torch.zeros((), dtype=torch.bool))

    def describe(self, coords: torch.Tensor) -> None:
        """Take scale and components from some regions, shape (R, 3)."""
        folded = _folded(coords)
        self.centre.copy_(folded.mean(dim=0))
        spread = (folded - self.centre).square().mean().sqrt()
        self.spread.copy_(torch.where(spread > 0, spread, 1))
        found = torch.linalg.svd(self._features(coords).double(), full_matrices=False).Vh[: self.components.shape[1]]
        largest = found.gather(1, found.abs().argmax(dim=1, keepdim=True))
        self.components.zero_()
        self.components[:, : len(found)] = (found * largest.sign()).T  # a component may as well be turned round

    def fit(self, coords: torch.Tensor) -> None:
        """Describe places by the regions of training, once: what is learned of components is of these."""
        if not self.is_fitted:
            self.describe(coords)
            self.is_fitted.fill_(True)

    def forward(self, coords: torch.Tensor) -> torch.Tensor:
        """Return the codes of places, shape (U, 3), to (U, width)."""
        return self._features(coords) @ self.components

    def _features(self, coords: torch.Tensor) -> torch.Tensor:
        at = (_folded(coords) - self.centre) / self.spread
        far = torch.cdist(at, self.bumps, compute_mode="donot_use_mm_for_euclid_dist") / self.lengths  # (U, D)
        return torch.cat([_HEIGHT * (-far.square()).exp(), _SIDE * coords[:, :1].sign()], dim=1)


def _grid(length: float) -> torch.Tensor:
    """Return where bumps are whose products fall off over a length, shape (D, 3)."""
    gap = _GAP * length
    count = math.ceil(_REACH / gap)
    axis = gap * torch.arange(-count, count + 1)
    return torch.cartesian_prod(axis, axis, axis)


def _folded(coords: torch.Tensor) -> torch.Tensor:
    return torch.cat([coords[:, :1].abs(), coords[:, 1:]], dim=1)
