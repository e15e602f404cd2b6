"""What a model's settings need of the data."""

from __future__ import annotations

from typing import Any

from scmodelforge._registry import MODELS, OBJECTIVES
from scmodelforge.config.cell_labels import CELL_LABELS, counted_terms, needed_labels
from scmodelforge.config.faults import Faults
from scmodelforge.config.schema import DataConfig, ModelConfig

__all__ = ["check_labels", "check_whole_counts"]


def check_labels(data: DataConfig, model: ModelConfig, faults: Faults) -> None:
    """Refuse a model that learns from labels of cells where no column of them is named."""
    for name in needed_labels(model):
        setting = CELL_LABELS[name].column
        if getattr(data, setting) is None:
            terms = [term for term, of in counted_terms(model).items() if of == name]
            faults.add(
                f"data.{setting}",
                f"data.{setting} is not set, but model.architecture '{model.architecture}' with these settings learns "
                f"from it ({', '.join(terms)}); name the obs column.",
            )


def check_whole_counts(data: DataConfig, model: ModelConfig, faults: Faults) -> None:
    """Refuse normalisation before a model or a loss that takes whole counts."""
    architecture: Any = MODELS.get(model.architecture)
    task = model.pretraining_task or getattr(architecture, "default_objective", None)
    objective = OBJECTIVES.get(task) if task in OBJECTIVES.names() else None
    learns = getattr(objective, "needs_counts", False) or getattr(model, "value_loss", "") == "zero_truncated_poisson"
    if (learns or getattr(architecture, "takes_counts", False)) and data.preprocessing.normalize is not None:
        faults.add(
            "data.preprocessing.normalize",
            f"data.preprocessing.normalize is '{data.preprocessing.normalize}', but model.architecture "
            f"'{model.architecture}' with these settings takes whole counts; leave it out.",
        )
