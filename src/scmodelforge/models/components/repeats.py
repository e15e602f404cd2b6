"""Scores of a next gene when each gene comes once: those that were named, and special tokens, are out."""

from __future__ import annotations

from typing import Any

import torch

from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models.components.losses import Restriction
from scmodelforge.models.components.special_tokens import DEFAULT_SPECIAL_IDS, SpecialIds

__all__ = ["exclude_named", "exclude_named_everywhere", "named_genes", "restriction"]


def named_genes(
    input_ids: torch.Tensor, positions: torch.Tensor, *, special_ids: SpecialIds = DEFAULT_SPECIAL_IDS
) -> torch.Tensor:
    """Return the tokens up to and with some positions.

    Parameters
    ----------
    input_ids
        Tokens of the cell of each position, shape (M, S).
    positions
        Positions, shape (M,).
    special_ids
        The special tokens.

    Returns
    -------
    Shape (M, S): the tokens, and padding after the position.
    """
    is_later = torch.arange(input_ids.shape[1], device=input_ids.device) > positions[:, None]
    return input_ids.masked_fill(is_later, special_ids.pad)


def exclude_named(
    logits: torch.Tensor,
    named: torch.Tensor,
    labels: torch.Tensor | None = None,
    *,
    special_ids: SpecialIds = DEFAULT_SPECIAL_IDS,
) -> torch.Tensor:
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
    special_ids
        The special tokens.

    Returns
    -------
    Shape (M, V).
    """
    special = special_ids.on(logits.device)
    is_out = torch.ones(len(logits), len(special), dtype=torch.bool, device=logits.device)
    if labels is not None:
        named = named.masked_fill(named == labels[:, None], special_ids.pad)
        is_out = special != labels[:, None]
    return _Exclude.apply(logits, named, special, is_out)


class _Exclude(torch.autograd.Function):
    """Scores with ``-inf`` at some columns, in one copy.

    The way back hands on the gradient as it is: where a score is ``-inf``, that of a softmax is 0 already.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, named: torch.Tensor, special: torch.Tensor, is_out: torch.Tensor
    ) -> torch.Tensor:
        excluded = logits.scatter(1, named, float("-inf"))
        excluded[:, special] = logits[:, special].masked_fill(is_out, float("-inf"))
        return excluded

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        return gradients[0], None, None, None


def exclude_named_everywhere(
    logits: torch.Tensor,
    input_ids: torch.Tensor,
    labels: torch.Tensor | None = None,
    *,
    special_ids: SpecialIds = DEFAULT_SPECIAL_IDS,
) -> torch.Tensor:
    """Apply :func:`exclude_named` at every position, which itself counts as named.

    Parameters
    ----------
    logits
        Unnormalised scores, shape (B, S, V).
    input_ids, labels
        Tokens, and true next genes, shape (B, S).
    special_ids
        The special tokens.

    Returns
    -------
    Shape (B, S, V).
    """
    batch, length, size = logits.shape
    positions = torch.arange(length, device=logits.device)
    first = input_ids.new_full((batch, size), length)  # where each token stands for the first time
    first.scatter_reduce_(1, input_ids, positions.expand_as(input_ids), "amin")
    first[:, special_ids.on(logits.device)] = -1
    is_out = first[:, None, :] <= positions[:, None]  # (B, S, V)
    if labels is not None:
        is_label = labels != IGNORE_INDEX
        cells, places = torch.nonzero(is_label, as_tuple=True)
        is_out[cells, places, labels[is_label]] = False
    return logits.masked_fill(is_out, float("-inf"))


def restriction(
    input_ids: torch.Tensor, labels: torch.Tensor, *, special_ids: SpecialIds = DEFAULT_SPECIAL_IDS
) -> Restriction:
    """Return what applies :func:`exclude_named` to the logits of some of the labelled positions.

    Parameters
    ----------
    input_ids, labels
        Tokens, and true next genes, -100 where there is none, shape (B, S).
    special_ids
        The special tokens.
    """
    cells, positions = torch.nonzero(labels != IGNORE_INDEX, as_tuple=True)
    targets = labels[cells, positions]

    def restrict(logits: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        named = named_genes(input_ids[cells[numbers]], positions[numbers], special_ids=special_ids)
        return exclude_named(logits, named, targets[numbers], special_ids=special_ids)

    return restrict
