"""Scores of a next gene when each gene comes once: those that were named, and special tokens, are out."""

from __future__ import annotations

import torch

from scmodelforge.constants import IGNORE_INDEX, PAD_TOKEN, SPECIAL_TOKENS
from scmodelforge.models.components.losses import Restriction

__all__ = ["exclude_named", "exclude_named_everywhere", "named_genes", "restriction"]

_PAD_ID = SPECIAL_TOKENS.index(PAD_TOKEN)


def named_genes(input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return the tokens up to and with some positions.

    Parameters
    ----------
    input_ids
        Tokens of the cell of each position, shape (M, S).
    positions
        Positions, shape (M,).

    Returns
    -------
    Shape (M, S): the tokens, and padding after the position.
    """
    is_later = torch.arange(input_ids.shape[1], device=input_ids.device) > positions[:, None]
    return input_ids.masked_fill(is_later, _PAD_ID)


def exclude_named(logits: torch.Tensor, named: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
    """Give the score ``-inf`` to the genes that were named and to special tokens.

    Parameters
    ----------
    logits
        Unnormalised scores, shape (M, V).
    named
        Tokens that cannot come again, shape (M, S).
    labels
        True next genes, -100 where there is none, shape (M,). Their scores are kept, so that a label that was named
        costs a finite loss.

    Returns
    -------
    Shape (M, V).
    """
    excluded = logits.scatter(1, named, float("-inf"))
    excluded[:, : len(SPECIAL_TOKENS)] = float("-inf")
    if labels is None:
        return excluded
    column = labels.clamp(min=0)[:, None]
    is_label = (labels != IGNORE_INDEX)[:, None]
    kept = torch.where(is_label, logits.gather(1, column), excluded.gather(1, column))
    return excluded.scatter(1, column, kept)


def exclude_named_everywhere(
    logits: torch.Tensor, input_ids: torch.Tensor, labels: torch.Tensor | None = None
) -> torch.Tensor:
    """Apply :func:`exclude_named` at every position, which itself counts as named.

    Parameters
    ----------
    logits
        Unnormalised scores, shape (B, S, V).
    input_ids, labels
        Tokens, and true next genes, shape (B, S).

    Returns
    -------
    Shape (B, S, V).
    """
    batch, length, _ = logits.shape
    positions = torch.arange(length, device=logits.device).repeat(batch)
    named = named_genes(input_ids.repeat_interleave(length, dim=0), positions)  # (B * S, S)
    rows = exclude_named(logits.flatten(0, 1), named, None if labels is None else labels.flatten())
    return rows.view_as(logits)


def restriction(input_ids: torch.Tensor, labels: torch.Tensor) -> Restriction:
    """Return what applies :func:`exclude_named` to the logits of some of the labelled positions.

    Parameters
    ----------
    input_ids, labels
        Tokens, and true next genes, -100 where there is none, shape (B, S).
    """
    cells, positions = torch.nonzero(labels != IGNORE_INDEX, as_tuple=True)
    targets = labels[cells, positions]

    def restrict(logits: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        return exclude_named(logits, named_genes(input_ids[cells[numbers]], positions[numbers]), targets[numbers])

    return restrict
