"""Next-gene prediction with counts: a model names the genes of a cell, and the count of each, one after another.

As :mod:`scmodelforge.objectives.next_gene`, but that values are counts and asked for as they are, and that no cell has
a prefix: each gene is seen by the later ones only (TranscriptFormer, Pearce et al. 2025,
doi:10.1101/2025.04.25.650731).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.objectives.base import register_objective
from scmodelforge.objectives.collate import scatter
from scmodelforge.objectives.next_gene import NextGenePrediction

__all__ = ["NextCountPrediction"]


@register_objective("next_count_prediction")
class NextCountPrediction(NextGenePrediction):
    """Ask for the next gene and its count, which stands in ``targets`` at the same place as its label."""

    needs: ClassVar[frozenset[str]] = frozenset({"input_ids", "values"})
    loss_terms: ClassVar[tuple[str, ...]] = ("next_gene", "expression_count")
    needs_counts: ClassVar[bool] = True

    def _ask_how_much(self, batch: Batch, tokens: TokenBlock, asked: np.ndarray, target_index: np.ndarray) -> None:
        batch.pop("bin_ids", None)
        shape = (len(tokens), batch["input_ids"].shape[1])
        batch["targets"] = scatter(tokens.values[asked], target_index, shape, fill=0, dtype=torch.float32)

    def _prefix_lengths(self, tokens: TokenBlock) -> np.ndarray:
        return np.ones(len(tokens), dtype=np.int64)
