"""What scGPT is shown of a batch: no value where one is hidden, and nothing of what stands at padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models.components.embeddings import blank_padding

__all__ = ["ShownCells", "known_mask"]


@dataclass(frozen=True)
class ShownCells:
    """Cells as the transformer sees them.

    Attributes
    ----------
    ids
        Genes, shape (B, S).
    values
        Values, shape (B, S).
    is_real
        Where there is no padding, shape (B, S), bool.
    is_hidden
        Where the value is hidden, shape (B, S), bool.
    is_generated
        Where it is to be generated, shape (B, S), bool; ``None`` where nothing is.
    mask
        Which token sees which where values are generated, bool, shape (B, 1, S, S).
    """

    ids: torch.Tensor
    values: torch.Tensor
    is_real: torch.Tensor
    is_hidden: torch.Tensor
    is_generated: torch.Tensor | None = None
    mask: torch.Tensor | None = None

    @property
    def is_known(self) -> torch.Tensor:
        """Which tokens the cell is known by, shape (B, S), bool."""
        return self.is_real if self.is_generated is None else self.is_real & ~self.is_generated

    @classmethod
    def of(
        cls,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None,
        *,
        pad_id: int,
        mask_value: float,
        is_hidden: torch.Tensor | None = None,
        asked: torch.Tensor | None = None,
        prefix_len: torch.Tensor | None = None,
    ) -> ShownCells:
        """Return what may be seen of a batch.

        Parameters
        ----------
        input_ids, attention_mask, values
            The batch, shape (B, S).
        pad_id
            The padding token.
        mask_value
            Value shown where one is hidden.
        is_hidden
            Where values are hidden, shape (B, S), bool; ``None`` is nowhere.
        asked
            The genes there, shape (B, S), -100 where ``input_ids`` say it; ``None`` where they do everywhere.
        prefix_len
            Known tokens of each cell, shape (B,); those after them are generated. ``None`` generates nothing.
        """
        is_real = attention_mask != 0
        is_hidden = torch.zeros_like(is_real) if is_hidden is None else is_hidden
        is_generated, mask = None, None
        if prefix_len is not None:
            places = torch.arange(input_ids.shape[1], device=input_ids.device)
            is_generated = (places >= prefix_len[:, None]) & is_real
            is_hidden, mask = is_hidden | is_generated, known_mask(len(places), prefix_len)
        if asked is not None:
            input_ids = torch.where(is_hidden & (asked != IGNORE_INDEX), asked, input_ids)
        scalars = torch.zeros(input_ids.shape, device=input_ids.device) if values is None else values
        scalars = scalars.masked_fill(is_hidden, mask_value)
        ids, shown = blank_padding(input_ids, scalars, attention_mask, pad_id=pad_id)
        assert shown is not None
        return cls(ids, shown, is_real, is_hidden, is_generated, mask)


def known_mask(seq_len: int, prefix_len: torch.Tensor) -> torch.Tensor:
    """Make the mask under which all tokens see the known ones at the beginning, and the others also themselves.

    Parameters
    ----------
    seq_len
        Number of tokens S.
    prefix_len
        Known tokens of each cell, shape (B,).

    Returns
    -------
    Which query sees which key, bool, shape (B, 1, S, S).
    """
    places = torch.arange(seq_len, device=prefix_len.device)
    is_known = places < prefix_len[:, None]  # (B, S)
    return (is_known[:, None, :] | (places[:, None] == places))[:, None]
