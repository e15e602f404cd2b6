"""What ScDiVa learns by: the terms of its loss and the weight of the divergence over the steps of a run."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scmodelforge._errors import DataError
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models.components.losses import masked_cross_entropy, masked_squared_error

__all__ = ["annotation_term", "reconstruction_term"]


def annotation_term(
    logits: torch.Tensor, cell_types: torch.Tensor | None, *, weights: Sequence[float] | None = None
) -> dict[str, torch.Tensor]:
    """Return ``annotation``, the mean cross-entropy over the cells whose class is known; nothing without classes.

    Parameters
    ----------
    logits
        Scores of cell types, shape (B, C).
    cell_types
        Classes, -100 where unknown, shape (B,).
    weights
        What the cross-entropy of a cell of each class is multiplied by; ``None`` is 1 each.

    Raises
    ------
    DataError
        If a class does not exist; checked where it costs nothing, i.e. on the CPU.
    """
    if cell_types is None:
        return {}
    if cell_types.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = cell_types[(cell_types != IGNORE_INDEX) & ((cell_types < 0) | (cell_types >= logits.shape[1]))]
        if len(wrong):
            msg = (
                f"cell type {int(wrong[0])} is not one of {logits.shape[1]} (model.num_cell_types); give numbers from "
                "0 on, and -100 where the type is unknown."
            )
            raise DataError(msg)
    return {"annotation": masked_cross_entropy(logits, cell_types, weights=weights)}


def reconstruction_term(
    logits: torch.Tensor,
    truth: torch.Tensor | None,
    labels: torch.Tensor | None,
    expression: torch.Tensor | None,
) -> dict[str, torch.Tensor]:
    """Return the mean squared error: over hidden genes as ``masked_value``, over whole profiles as ``recon``.

    Parameters
    ----------
    logits
        Reconstructed profiles, shape (B, G).
    truth
        Values of the hidden genes, shape (B, S).
    labels
        Hidden genes, -100 where none is, shape (B, S).
    expression
        Whole profiles, shape (B, G), scored where there are no labels. Without them there is no term.
    """
    if labels is not None:
        assert truth is not None
        found = logits.gather(1, labels.clamp(min=0))  # (B, S)
        return {"masked_value": masked_squared_error(found, truth, labels != IGNORE_INDEX)}
    if expression is None:
        return {}
    exact = torch.promote_types(logits.dtype, torch.float32)
    total = (logits.to(exact) - expression.to(exact)).square().sum()
    return {"recon": total / max(1, logits.numel())}
