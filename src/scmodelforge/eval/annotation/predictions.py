"""What a model itself says of the labels of cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scmodelforge._errors import DataError

__all__ = ["LabelPredictions"]

_SLACK = 1e-2  # by which a row of half-precision numbers may miss 1


@dataclass(frozen=True, slots=True)
class LabelPredictions:
    """Probabilities of labels, from a head that was trained to give them.

    Attributes
    ----------
    names
        The labels the head can give, shape (K,), str.
    probabilities
        Shape (n, K), float64, one row for each held-out cell, in the order in which the cells are listed. Rows are
        made to sum to 1 exactly.

    Raises
    ------
    DataError
        If the arrays do not fit each other, a label is listed twice or empty, or rows are no probabilities.
    """

    names: np.ndarray
    probabilities: np.ndarray

    def __post_init__(self) -> None:
        names = np.asarray(self.names, dtype=str)
        rows = np.asarray(self.probabilities, dtype=np.float64)
        if rows.ndim != 2 or names.ndim != 1 or rows.shape[1] != len(names):
            msg = f"predictions have shape {rows.shape} for {len(names):,} labels; give one column a label, (n, K)."
            raise DataError(msg)
        if len(np.unique(names)) < len(names) or (names == "").any():
            msg = "labels of predictions are listed twice or empty; name each column once."
            raise DataError(msg)
        is_bad = ~np.isfinite(rows).all(axis=1)
        is_bad |= (np.where(np.isfinite(rows), rows, 0) < 0).any(axis=1)
        is_bad |= ~(np.abs(rows.sum(axis=1) - 1) <= _SLACK)
        if is_bad.any():
            msg = (
                f"predictions of {int(is_bad.sum()):,} of {len(rows):,} cells are no probabilities (finite, not below "
                "0, together 1); give the softmax of the head's scores."
            )
            raise DataError(msg)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "probabilities", rows / rows.sum(axis=1, keepdims=True))

    def __len__(self) -> int:
        return len(self.probabilities)

    def select(self, rows: np.ndarray) -> LabelPredictions:
        """Return the predictions of the given cells (indices or mask) in the given order."""
        return LabelPredictions(self.names, self.probabilities[rows])
