"""Which cells of a source a run trains on and holds out: its filter, and its split."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.config.schema import SplitConfig
from scmodelforge.data.obs_filter import ObsFilter
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.split_files import read_split
from scmodelforge.data.splits import CellSplit, split_cells

__all__ = ["choose_cells", "filtered_out"]

_log = logging.getLogger(__name__)


def choose_cells(source: CellSource, split: SplitConfig, *, expression: str | None) -> CellSplit:
    """Return the cells to train on and those held out. Cells that a filter leaves out are on neither side.

    Parameters
    ----------
    source
        The cells.
    split
        How to split them, or the file that says it.
    expression
        ``data.filter``.

    Raises
    ------
    ConfigError, DataError
        If the expression or the split does not fit the data, or a side that is wanted gets no cell.
    """
    excluded = filtered_out(source, expression)
    if split.file is None:
        return split_cells(source, split, excluded=excluded)
    stored = read_split(Path(split.file), source)
    found = replace(
        stored,
        train=np.setdiff1d(stored.train, excluded, assume_unique=True),
        validation=np.setdiff1d(stored.validation, excluded, assume_unique=True),
    )
    for side, before, after in (
        ("training", stored.train, found.train),
        ("held-out", stored.validation, found.validation),
    ):
        if len(before) and not len(after):
            msg = (
                f"data.filter ({expression}) leaves none of the {len(before):,} {side} cells of {split.file}; widen it."
            )
            raise DataError(msg)
    neither = sum(source.file_sizes) - len(excluded) - len(found.train) - len(found.validation)
    if neither:
        _log.info(f"{split.file} has {neither:,} further cells of the data on neither side; they are left out")
    return found


def filtered_out(source: CellSource, expression: str | None) -> np.ndarray:
    """Return the positions of the cells that ``data.filter`` leaves out, ascending, int64, and log how many are kept.

    Raises
    ------
    ConfigError
        If the expression cannot be read or does not fit the columns.
    DataError
        If no cell is left.
    """
    if expression is None:
        return np.zeros(0, dtype=np.int64)
    keeps = ObsFilter(expression).keeps(source)
    if not keeps.any():
        msg = f"data.filter ({expression}) holds for none of the {len(keeps):,} cells; widen it."
        raise DataError(msg)
    _log.info(f"data.filter keeps {np.count_nonzero(keeps):,} of {len(keeps):,} cells ({expression})")
    return np.flatnonzero(~keeps)
