"""Cells divided into folds, each held out once: whole groups such as donors, or single cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import DataConfig
from scmodelforge.data.draws import generator
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.selection import choose_cells
from scmodelforge.data.splits import MISSING_GROUP, CellSplit

__all__ = ["make_folds"]


def make_folds(source: CellSource, config: DataConfig, num_folds: int) -> list[CellSplit]:
    """Return splits of which each cell is held out by exactly one.

    Groups of the column that ``data.split`` splits by stay together; the largest go first, each to the fold that has
    the fewest cells.

    Parameters
    ----------
    source
        The cells.
    config
        Settings of the data.
    num_folds
        Number of splits.

    Raises
    ------
    ConfigError
        If there are fewer groups than folds.
    DataError
        As of :func:`~scmodelforge.data.selection.choose_cells`.
    """
    found = choose_cells(source, config.split, expression=config.filter)
    cells = np.sort(np.concatenate([found.train, found.validation]))
    draw = generator(config.split.seed, "folds")
    if found.by == "cells":
        places = draw.permutation(len(cells)) % num_folds
        names = [list[str]() for _ in range(num_folds)]
    else:
        places, names = _deal_groups(source, found.by, cells, num_folds, draw)
    if len(np.unique(places)) < num_folds:
        msg = f"--folds {num_folds} is more than the {len(cells):,} cells there are; ask for fewer."
        raise ConfigError(msg)
    return [
        replace(
            found,
            train=cells[places != fold],
            validation=cells[places == fold],
            fraction=1 / num_folds,
            groups=names[fold],
        )
        for fold in range(num_folds)
    ]


def _deal_groups(
    source: CellSource, column: str, cells: np.ndarray, num_folds: int, draw: np.random.Generator
) -> tuple[np.ndarray, list[list[str]]]:
    """Return the fold of each cell, and the names of each fold's groups."""
    codes, categories = source.obs(column)
    labels = [*map(str, categories), MISSING_GROUP]
    codes = np.where(codes < 0, len(categories), codes)[cells]
    present, members = np.unique(codes, return_inverse=True)
    if len(present) < num_folds:
        msg = (
            f"--folds {num_folds} is more than the {len(present)} groups of obs column '{column}', which stay "
            "together; ask for fewer, or split single cells with --set data.split.by=cells."
        )
        raise ConfigError(msg)
    sizes = np.bincount(members, minlength=len(present))
    order = draw.permutation(len(present))
    order = order[np.argsort(-sizes[order], kind="stable")]
    fold_of, filled = np.zeros(len(present), dtype=np.int64), np.zeros(num_folds, dtype=np.int64)
    names = [list[str]() for _ in range(num_folds)]
    for group in order:
        fold = int(filled.argmin())
        fold_of[group] = fold
        filled[fold] += sizes[group]
        names[fold].append(labels[present[group]])
    return fold_of[members], names
