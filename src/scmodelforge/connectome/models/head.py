"""From the code of a pair of regions to its connectivity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["PairHead"]


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
