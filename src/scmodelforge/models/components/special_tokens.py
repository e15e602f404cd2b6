"""Which tokens of a model are special, where a vocabulary has them elsewhere than the package's own do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from scmodelforge.constants import CLS_TOKEN, MASK_TOKEN, PAD_TOKEN, SPECIAL_TOKENS
from scmodelforge.data.vocab import GeneVocab

__all__ = ["DEFAULT_SPECIAL_IDS", "SpecialIds", "apply_special_tokens"]


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Ids of special tokens.

    Attributes
    ----------
    every
        All of them, ascending.
    pad
        That of padding.
    cls
        That of the token which stands for the cell, ``None`` where there is none.
    mask
        That of the token shown in place of a hidden gene, -1 where there is none.
    """

    every: tuple[int, ...]
    pad: int
    cls: int | None
    mask: int

    def on(self, device: torch.device) -> torch.Tensor:
        """Return all ids as a tensor, shape (n,), int64."""
        first = self.every[0]
        if self.every == tuple(range(first, first + len(self.every))):
            return torch.arange(first, first + len(self.every), device=device)  # needs no copy to the device
        return torch.tensor(self.every, device=device)


DEFAULT_SPECIAL_IDS = SpecialIds(
    tuple(range(len(SPECIAL_TOKENS))),
    SPECIAL_TOKENS.index(PAD_TOKEN),
    SPECIAL_TOKENS.index(CLS_TOKEN),
    SPECIAL_TOKENS.index(MASK_TOKEN),
)


def apply_special_tokens(model: nn.Module, vocab: GeneVocab) -> None:
    """Tell a model with fresh weights which tokens are special, in place; the package's own it knows.

    Each module with an attribute ``special_ids`` gets them. In embeddings of the tokens with a padding row that row
    moves to the padding token: it is zero and not trained, which no gene's may be.

    Parameters
    ----------
    model
        The model.
    vocab
        The vocabulary of its tokens.

    Raises
    ------
    DataError
        If the vocabulary has no padding token.
    """
    special = vocab.special_tokens
    ids = SpecialIds(
        tuple(sorted(vocab.special_ids)), vocab.pad_id, special.get(CLS_TOKEN), special.get(MASK_TOKEN, -1)
    )
    if ids == DEFAULT_SPECIAL_IDS:
        return
    for module in model.modules():
        if hasattr(module, "special_ids"):
            setattr(module, "special_ids", ids)  # noqa: B010 - an attribute of some modules only
        if isinstance(module, nn.Embedding) and module.num_embeddings == len(vocab):
            _move_padding(module, ids.pad)


def _move_padding(embedding: nn.Embedding, pad_id: int) -> None:
    if embedding.padding_idx in (None, pad_id):
        return
    with torch.no_grad():
        embedding.weight[embedding.padding_idx] = embedding.weight[pad_id]
        embedding.weight[pad_id] = 0
    embedding.padding_idx = pad_id
