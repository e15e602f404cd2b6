"""Losses on the vectors of the cells of a batch. Two of them compare cells, so they depend on what else is in it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

__all__ = ["cell_contrast_loss", "elastic_similarity_loss", "reverse_gradient"]


def elastic_similarity_loss(cells: torch.Tensor, threshold: float) -> torch.Tensor:
    """Push the similarity of each pair of cells away from a threshold, up or down.

    mean(1 - (S - beta)^2) over all pairs, with S their cosine, 0 on the diagonal and where it is negative: ECS of Cui
    et al. 2024, doi:10.1038/s41592-024-02201-0. It depends on which cells share the batch.

    Parameters
    ----------
    cells
        Vectors of the cells of a batch, shape (B, H).
    threshold
        The threshold beta.

    Returns
    -------
    Scalar, at least in single precision; 0 without cells.
    """
    cosines = _cosines(cells, cells)
    itself = torch.eye(len(cells), dtype=torch.bool, device=cells.device)
    cosines = cosines.masked_fill(itself, 0.0).clamp(min=0)
    return (1 - (cosines - threshold).square()).sum() / max(1, cosines.numel())


def cell_contrast_loss(cells: torch.Tensor, others: torch.Tensor, temperature: float) -> torch.Tensor:
    """Ask for each cell which of the batch is the same one, embedded a second time.

    Cross-entropy over cosine / temperature: CCE of scGPT, after Gao et al. 2021 (SimCSE), arXiv:2104.08821. It depends
    on which cells share the batch.

    Parameters
    ----------
    cells, others
        Vectors of the same cells from two passes with different dropout, shape (B, H).
    temperature
        Divides the cosines.

    Returns
    -------
    Scalar in nats, at least in single precision; 0 without cells.
    """
    scores = _cosines(cells, others) / temperature
    own = torch.arange(len(cells), device=cells.device)
    return F.cross_entropy(scores, own, reduction="sum") / max(1, len(cells))


def reverse_gradient(values: torch.Tensor) -> torch.Tensor:
    """Return the values unchanged; on the way back their gradient changes sign.

    What then learns to tell classes from the values teaches whoever made these to hide them: Ganin and Lempitsky 2015,
    arXiv:1409.7495.
    """
    return _Reversed.apply(values)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return -gradients[0]


def _cosines(cells: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the cosine of each cell with each other one, shape (B, B)."""
    exact = torch.promote_types(cells.dtype, torch.float32)
    with torch.autocast(cells.device.type, enabled=False):
        return F.normalize(cells.to(exact), dim=1) @ F.normalize(others.to(exact), dim=1).T
