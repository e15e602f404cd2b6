"""Probabilities of labels in the place of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import DataError
from scmodelforge.eval.annotation import LabelPredictions

__all__ = ["LabelHead"]


class LabelHead(nn.Module):
    """Gives probabilities of labels where a model gives embeddings, so that what embeds cells can also label them.

    Parameters
    ----------
    model
        Has ``score_cell_types(**batch) -> (B, C)``.
    names
        The labels, in the order of the scores.
    """

    def __init__(self, model: nn.Module, names: Iterable[str]) -> None:
        super().__init__()
        self.model = model
        self.names = np.array(list(names), dtype=str)

    def encode(self, **batch: Any) -> torch.Tensor:
        """Return the probability of each label, shape (B, C).

        Raises
        ------
        DataError
            If there are more or fewer scores than labels.
        """
        score: Callable[..., torch.Tensor] = self.model.score_cell_types  # type: ignore[assignment]
        scores = score(**batch)
        if scores.shape[1] != len(self.names):
            msg = (
                f"the model scores {scores.shape[1]} cell types and {len(self.names)} are named (labels.json); the "
                "names must be those the model was trained with."
            )
            raise DataError(msg)
        return scores.float().softmax(dim=1)

    def predictions(self, probabilities: np.ndarray) -> LabelPredictions:
        """Return what was predicted of some cells, from what ``encode`` gave for them."""
        return LabelPredictions(self.names, probabilities)
