"""What ScDiVa reads of a batch: the profile of each cell, of its tokens or as it is, without what is hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from scmodelforge._errors import DataError
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models._scdiva_parts import scatter_profile
from scmodelforge.models.components.embeddings import check_length, check_token_ids
from scmodelforge.models.components.special_tokens import SpecialIds

__all__ = ["Profiles", "read_profiles"]


class _Reader(Protocol):
    vocab_size: int
    max_seq_len: int | None
    special_ids: SpecialIds


@dataclass(frozen=True)
class Profiles:
    """Cells as a model sees them.

    Attributes
    ----------
    profile
        Shape (B, G), 0 at special tokens and hidden genes.
    truth
        What the input has for the hidden genes, shape (B, S); ``None`` without labels.
    """

    profile: torch.Tensor
    truth: torch.Tensor | None


def read_profiles(
    model: _Reader,
    input_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    values: torch.Tensor | None,
    expression: torch.Tensor | None,
    *,
    labels: torch.Tensor | None = None,
    masked_positions: torch.Tensor | None = None,
) -> Profiles:
    """Return the profiles of the cells of a batch; arguments as of the model's ``forward``.

    Raises
    ------
    ConfigError
        If the sequences are longer than the model takes.
    DataError
        If there is nothing to read, a profile of another width, or a token or label that is not in the vocabulary.
    """
    if labels is not None:
        check_token_ids(labels.masked_fill(labels == IGNORE_INDEX, 0), model.vocab_size)
    if expression is not None:
        _check_alone(input_ids, masked_positions)
        return _of_expression(model, expression, labels)
    if input_ids is None:
        msg = "neither expression nor input_ids are given; give one of them, the latter with values."
        raise DataError(msg)
    if model.max_seq_len is not None:
        check_length(input_ids.shape[1], model.max_seq_len)
    is_real = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask != 0
    special = model.special_ids.on(input_ids.device)
    ids = input_ids.masked_fill(~is_real, model.special_ids.pad)
    check_token_ids(ids, model.vocab_size)
    is_read = is_real & ~torch.isin(ids, special)
    if labels is not None:
        is_read &= labels == IGNORE_INDEX
    if masked_positions is not None:
        is_read &= masked_positions == 0
    truth = None
    if labels is not None:
        truth = torch.zeros(input_ids.shape, device=input_ids.device) if values is None else values
    return Profiles(scatter_profile(ids, values, is_read, num_genes=model.vocab_size), truth)


def _of_expression(model: _Reader, expression: torch.Tensor, labels: torch.Tensor | None) -> Profiles:
    if expression.ndim != 2 or expression.shape[1] != model.vocab_size:
        msg = (
            f"expression has shape {tuple(expression.shape)}, but the model reads {model.vocab_size} genes a cell "
            "(model.vocab_size, special tokens included); give one column for each token of its vocabulary."
        )
        raise DataError(msg)
    profile = expression.index_fill(1, model.special_ids.on(expression.device), 0)
    if labels is None:
        return Profiles(profile, None)
    columns, is_target = labels.clamp(min=0), labels != IGNORE_INDEX
    is_hidden = torch.zeros_like(profile, dtype=torch.int64).scatter_add(1, columns, is_target.long()) > 0
    return Profiles(profile.masked_fill(is_hidden, 0), expression.gather(1, columns))


def _check_alone(input_ids: torch.Tensor | None, masked_positions: torch.Tensor | None) -> None:
    given = {"input_ids": input_ids, "masked_positions": masked_positions}
    for name, tensor in given.items():
        if tensor is not None:
            msg = f"both expression and {name} are given; give the profile or its tokens, and hide genes by labels."
            raise DataError(msg)
