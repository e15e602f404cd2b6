"""Labels of cells as a model's own head predicts them, where it was trained to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge.config.cell_labels import names_cell_types
from scmodelforge.config.schema import ModelConfig
from scmodelforge.eval.annotation import LabelPredictions
from scmodelforge.eval.annotation.label_head import LabelHead
from scmodelforge.eval.embed import embed_cells

__all__ = ["LabelHead", "label_head", "predict_labels"]


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
