"""Which cells take part in annotation, which labels count, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.eval.annotation.predictions import LabelPredictions
from scmodelforge.eval.base import BenchmarkInputs
from scmodelforge.eval.biology import column_of
from scmodelforge.eval.cells import Cells
from scmodelforge.eval.scope import scope_hash

__all__ = ["AnnotationTask"]


@dataclass(frozen=True)
class AnnotationTask:
    """The cells with a label that enough cells have, in an order that does not depend on how they were listed.

    Attributes
    ----------
    train, heldout
        The cells.
    predictions
        What a model's own head says of the held-out cells, row by row, if there is one.
    names
        The labels that count, sorted.
    seed
        Seed of draws.
    num_left_out, left_out
        Held-out cells left out, and why.
    obstacle
        Why held-out cells cannot be scored at all, or ``None``.
    facts
        What records say of the cells.
    """

    train: Cells
    heldout: Cells
    predictions: LabelPredictions | None
    names: np.ndarray
    seed: int
    num_left_out: int
    left_out: str | None
    obstacle: str | None
    facts: dict[str, Any]

    @classmethod
    def of(cls, benchmark: str, inputs: BenchmarkInputs, *, min_class_size: int) -> AnnotationTask:
        """Choose the cells.

        Raises
        ------
        DataError
            If there is no label column, no cell has a label, or predictions are not of the held-out cells.
        """
        train, heldout, predictions = _in_order(inputs)
        train_labels, heldout_labels = (column_of(part, "label", benchmark, inputs) for part in (train, heldout))
        both = np.concatenate([train_labels, heldout_labels])
        found, sizes = np.unique(both[both != ""], return_counts=True)
        if len(found) == 0:
            msg = f"benchmark '{benchmark}': none of the {len(both):,} cells of '{inputs.dataset}' has a label."
            raise DataError(msg)
        if inputs.label_sizes is not None:  # a sample may have few cells of a label that has many
            sizes = np.array([inputs.label_sizes.get(str(name), size) for name, size in zip(found, sizes, strict=True)])
        is_small = sizes < min_class_size
        names, small = found[~is_small], dict(zip(found[is_small].tolist(), sizes[is_small].tolist(), strict=True))
        keep_train, keep_heldout = np.isin(train_labels, names), np.isin(heldout_labels, names)
        train, heldout = train.select(keep_train), heldout.select(keep_heldout)
        return cls(
            train=train,
            heldout=heldout,
            predictions=None if predictions is None else predictions.select(keep_heldout),
            names=names,
            seed=inputs.seed,
            num_left_out=int((~keep_heldout).sum()),
            left_out=_left_out(heldout_labels, small, min_class_size),
            obstacle=_obstacle(heldout_labels[keep_heldout]),
            facts={
                "num_train": len(train),
                "num_labels": len(names),
                "scored_labels": scope_hash(map(str, names)),
                "min_class_size": min_class_size,
                "labels_left_out": list(small),
                **_shared_groups(inputs, train, heldout),
            },
        )

    @property
    def train_labels(self) -> np.ndarray:
        """Label of each training cell."""
        return _labels(self.train)

    @property
    def heldout_labels(self) -> np.ndarray:
        """Label of each held-out cell."""
        return _labels(self.heldout)

    @property
    def majority(self) -> str | None:
        """The label most training cells have, of several the first; ``None`` without training cells."""
        if len(self.train) == 0:
            return None
        names, sizes = np.unique(self.train_labels, return_counts=True)
        return str(names[sizes.argmax()])


def _labels(cells: Cells) -> np.ndarray:
    assert cells.labels is not None
    return cells.labels


def _in_order(inputs: BenchmarkInputs) -> tuple[Cells, Cells, LabelPredictions | None]:
    """Return both parts in their own order, and with the held-out cells their predictions."""
    heldout, predictions = inputs.heldout, inputs.predictions
    if not isinstance(predictions, LabelPredictions):  # none, or those of another kind of benchmark
        return inputs.train.in_order(), heldout.in_order(), None
    if len(predictions) != len(heldout):
        msg = f"{len(predictions):,} rows of predictions for {len(heldout):,} held-out cells; give one row a cell."
        raise DataError(msg)
    # The place in the list travels as the one column that no order depends on.
    listed = replace(heldout, groups=np.arange(len(heldout)).astype(str)).in_order()
    assert listed.groups is not None
    rows = listed.groups.astype(np.int64)
    return inputs.train.in_order(), heldout.select(rows), predictions.select(rows)


def _obstacle(labels: np.ndarray) -> str | None:
    found = np.unique(labels)
    if len(found) < 2:
        what = f"only the label '{found[0]}'" if len(found) else "no label with enough cells"
        return f"the held-out cells have {what}; two labels are needed"
    return None


def _left_out(labels: np.ndarray, small: dict[str, int], min_class_size: int) -> str | None:
    """Say how many held-out cells are left out, and of which labels, each with its cells in all the data."""
    reasons = []
    if small:
        number = int(np.isin(labels, list(small)).sum())
        each = ", ".join(f"{name} ({size})" for name, size in small.items())
        reasons.append(f"{_cells(number)} of labels with fewer than {min_class_size} cells in the data: {each}")
    if (labels == "").any():
        reasons.append(f"{_cells(int((labels == '').sum()))} without a label")
    return "; ".join(reasons) or None


def _cells(number: int) -> str:
    return f"{number:,} cell{'' if number == 1 else 's'}"


def _shared_groups(inputs: BenchmarkInputs, train: Cells, heldout: Cells) -> dict[str, Any]:
    """Say how many groups have cells on both sides, which makes held-out cells easier than those of new groups."""
    if train.groups is None or heldout.groups is None:
        return {}
    shared = np.setdiff1d(np.intersect1d(train.groups, heldout.groups), [""])
    return {"num_groups_on_both_sides": len(shared), "group_key": inputs.group_key}
