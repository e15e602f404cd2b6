"""Labels of cells as a model's own head predicts them, where it was trained to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import DataError
from scmodelforge.config.cell_labels import names_cell_types
from scmodelforge.config.schema import ModelConfig
from scmodelforge.eval.annotation import LabelPredictions
from scmodelforge.eval.embed import embed_cells

__all__ = ["LabelHead", "label_head", "predict_labels"]


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


def label_head(model: nn.Module, config: ModelConfig, labels: Mapping[str, Any]) -> LabelHead | None:
    """Return the head of a model that learned cell types, or ``None`` if it has not.

    Parameters
    ----------
    model
        The model.
    config
        Its settings, which say what it learns from.
    labels
        As of :class:`~scmodelforge.hub.bundle.Bundle`: the column and its categories, in the order of scores.
    """
    if not names_cell_types(config) or not hasattr(model, "score_cell_types"):
        return None
    return LabelHead(model, labels["categories"]) if labels.get("categories") else None


def predict_labels(
    head: LabelHead,
    batches: Iterable[Any],
    *,
    positions: np.ndarray,
    device: torch.device,
    autocast: Callable[[], Any] = nullcontext,
) -> LabelPredictions:
    """Label cells.

    Parameters
    ----------
    head
        Of :func:`label_head`.
    batches, positions, device, autocast
        As of :func:`~scmodelforge.eval.embed.embed_cells`.

    Returns
    -------
    Row i for ``positions[i]``.
    """
    return head.predictions(embed_cells(head, batches, positions=positions, device=device, autocast=autocast))
