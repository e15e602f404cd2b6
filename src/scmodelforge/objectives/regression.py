"""Regression: a model sees whole cells and is asked for numbers that are known of them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.objectives.base import register_objective
from scmodelforge.objectives.collate import pad

__all__ = ["Regression"]


@register_objective("regression")
class Regression:
    """Hide nothing, and bring the numbers of each cell as ``cell_values``, float32, shape (B, T); NaN where unknown.

    Each known number is a target of the term ``values``.

    Parameters
    ----------
    vocab
        The tokens.
    tokenizer_config, model_config
        Not used.

    Attributes
    ----------
    numbers
        The numbers of all cells of the source, shape (N, T), float32; a run gives them. Without them nothing is asked.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({"input_ids", "values"})
    loss_terms: ClassVar[tuple[str, ...]] = ("values",)
    reads_masking: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, vocab: GeneVocab, tokenizer_config: TokenizerConfig, model_config: ModelConfig) -> None:
        self._pad_id = vocab.pad_id
        self.numbers: np.ndarray | None = None

    def __call__(self, tokens: TokenBlock) -> Batch:
        """Return the batch of some cells."""
        batch = pad(tokens, pad_id=self._pad_id)
        batch["num_targets"] = {"values": 0}
        if self.numbers is not None:
            own = self.numbers[tokens.cell_index].astype(np.float32)
            batch["cell_values"] = torch.from_numpy(own)
            batch["num_targets"] = {"values": int(np.isfinite(own).sum())}
        return batch
