"""Labels of cells that a model may learn from, and where settings speak of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["CELL_LABELS", "CellLabelKind", "counted_terms", "names_cell_types", "needed_labels"]


@dataclass(frozen=True)
class CellLabelKind:
    """Where settings speak of a kind of label.

    Attributes
    ----------
    column
        Setting of ``data`` that names the obs column.
    size
        Setting of the model that says how many labels there are; filled from the data where it is ``None``.
    """

    column: str
    size: str


#: By the key that the labels have in a batch.
CELL_LABELS = {
    "cell_types": CellLabelKind("label_column", "num_cell_types"),
    "batch_labels": CellLabelKind("batch_column", "num_batches"),
}


def counted_terms(model: Any) -> dict[str, str]:
    """Return what a model learns beside its objective.

    Parameters
    ----------
    model
        Settings of the model; those that have such terms give them as ``counted_terms``.

    Returns
    -------
    Of each loss term what it is a mean over: ``targets`` (positions with a label), ``cells``, or cells that have one
    of :data:`CELL_LABELS`.
    """
    return dict(getattr(model, "counted_terms", {}))


def needed_labels(model: Any) -> list[str]:
    """Return the labels of cells that a model with some settings learns from, keys of :data:`CELL_LABELS`."""
    return [name for name in CELL_LABELS if name in counted_terms(model).values()]


def names_cell_types(model: Any) -> bool:
    """Tell whether a model with some settings learns to name cell types; a head may read them to another end."""
    head = getattr(model, "head", None)
    return "cell_types" in needed_labels(model) and getattr(head, "kind", "cell_types") == "cell_types"
