"""Cells that can be trained on: those of a split that are not empty and within the limits of the preprocessing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.cell_sketch import Shared
from scmodelforge.data.filters import CellLimits
from scmodelforge.data.scan import ScanReport
from scmodelforge.data.splits import CellSplit

__all__ = ["membership", "warn_of_repeated", "without_unusable"]

_log = logging.getLogger(__name__)


def membership(positions: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that tells which of some positions are among the given ones (sorted)."""

    def contains(asked: np.ndarray) -> np.ndarray:
        if not len(positions):
            return np.zeros(len(asked), dtype=bool)
        slot = np.minimum(np.searchsorted(positions, asked), len(positions) - 1)
        found: np.ndarray = positions[slot] == asked
        return found

    return contains


def without_unusable(split: CellSplit, report: ScanReport, limits: CellLimits) -> tuple[CellSplit, int, int]:
    """Return the split without the cells that are empty or break a limit, and how many there were; say so.

    Cells that are on neither side, since a filter leaves them out, do not count.
    """
    for warning in report.warnings:
        _log.warning(warning)
    num_cells = len(split.train) + len(split.validation)
    is_selected = membership(np.union1d(split.train, split.validation))
    empty, dropped = is_selected(report.empty), is_selected(report.dropped)
    num_empty, num_dropped = int(empty.sum()), int(dropped.sum())
    if num_dropped:
        reasons = limits.describe(report.broken[dropped])
        _log.info(f"dropped {num_dropped:,} of {num_cells:,} cells by limits of data.preprocessing: {reasons}")
    if num_empty:
        _log.info(f"skipped {num_empty:,} of {num_cells:,} cells: no gene of the vocabulary in them")
    split = _without(split, report.dropped, why="is within the limits of data.preprocessing; loosen them")
    why = "expresses a gene of the vocabulary; check data.gene_vocab"
    return _without(split, report.empty, why=why), num_empty, num_dropped


def warn_of_repeated(repeated: Shared) -> None:
    """Warn if held-out cells are training cells as well, which data sets put together from others may have."""
    if repeated.verdict:
        _log.warning(
            f"{repeated.share:.1%} of the held-out cells are also training cells (the same cell twice in the data), so "
            "scores on them are too good; leave out what is there twice, such as cells that are not primary data."
        )


def _without(split: CellSplit, excluded: np.ndarray, *, why: str) -> CellSplit:
    """Return the split without some cells.

    Parameters
    ----------
    split
        The split.
    excluded
        Positions of the cells.
    why
        What no cell does if none is left, and what to do.
    """
    if not len(excluded):
        return split
    train = np.setdiff1d(split.train, excluded, assume_unique=True)
    if not len(train):
        msg = f"no training cell {why}, or choose others with data.split."
        raise DataError(msg)
    validation = np.setdiff1d(split.validation, excluded, assume_unique=True)
    if len(split.validation) and not len(validation):
        msg = f"no held-out cell {why}, or hold out others with data.split."
        raise DataError(msg)
    return replace(split, train=train, validation=validation)
