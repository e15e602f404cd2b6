"""Whether the labels are there that a model learns from."""

from __future__ import annotations

from scmodelforge.config.cell_labels import CELL_LABELS, counted_terms, needed_labels
from scmodelforge.config.faults import Faults
from scmodelforge.config.schema import DataConfig, ModelConfig

__all__ = ["check_labels"]


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
