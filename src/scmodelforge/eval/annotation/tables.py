"""What stands behind scores of labels, as plain values: confusion, single labels, groups, bins of confidence."""

from __future__ import annotations

from typing import Any

import numpy as np

from scmodelforge.eval.annotation.scores import CALIBRATION_BINS, calibration_bins

__all__ = ["answer_tables", "calibration_table", "group_table"]


def answer_tables(names: np.ndarray, table: np.ndarray) -> dict[str, Any]:
    """Return ``labels``, the ``confusion`` matrix, and ``per_class``: precision, recall, F1 and support of each label.

    Parameters
    ----------
    names
        The labels, shape (L,).
    table
        Cells by true label (rows) and given label (columns), shape (L, L).

    Returns
    -------
    Plain lists in the order of ``labels``. What is not defined is ``None``: the precision of a label never given, the
    recall of one without cells.
    """
    right, true, given = np.diagonal(table), table.sum(axis=1), table.sum(axis=0)
    return {
        "labels": [str(name) for name in names],
        "confusion": table.tolist(),
        "per_class": {
            "precision": _ratios(right, given),
            "recall": _ratios(right, true),
            "f1": _ratios(2 * right, true + given),
            "support": true.tolist(),
        },
    }


def group_table(groups: np.ndarray | None, is_right: np.ndarray) -> dict[str, Any]:
    """Return ``groups``: name, number of cells and accuracy of each group, or nothing without groups.

    Cells without a group are left out.
    """
    if groups is None:
        return {}
    is_known = groups != ""
    names, codes, sizes = np.unique(groups[is_known], return_inverse=True, return_counts=True)
    right = np.bincount(codes, weights=is_right[is_known], minlength=len(names))
    return {"groups": {"names": names.tolist(), "n": sizes.tolist(), "accuracy": _ratios(right, sizes)}}


def calibration_table(confidence: np.ndarray, is_right: np.ndarray) -> dict[str, Any]:
    """Return ``calibration``: of each bin its upper bound, number of cells, mean confidence and accuracy."""
    bins = calibration_bins(confidence)
    sizes = np.bincount(bins, minlength=CALIBRATION_BINS)
    return {
        "calibration": {
            "upper_bound": [(each + 1) / CALIBRATION_BINS for each in range(CALIBRATION_BINS)],
            "n": sizes.tolist(),
            "confidence": _ratios(np.bincount(bins, weights=confidence, minlength=CALIBRATION_BINS), sizes),
            "accuracy": _ratios(np.bincount(bins, weights=is_right, minlength=CALIBRATION_BINS), sizes),
        }
    }


def _ratios(numerators: np.ndarray, denominators: np.ndarray) -> list[float | None]:
    pairs = zip(numerators.tolist(), denominators.tolist(), strict=True)
    return [top / bottom if bottom else None for top, bottom in pairs]
