"""What is said of a screen: a row for each perturbation and group of cells.

The test is a rank-sum test within cells (van Elteren 1960): in each cell the effect of the perturbation is ranked among
those of random genes in the same cell. Were the gene one of them, every rank were as likely, so that the sum over cells
of ranks less their expectation, over the root of the sum of their variances, is about standard normal. Ties lower the
variance. Cells differ in how far they move whatever is done to them, and that drops out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control, norm

from scmodelforge.data.draws import generator
from scmodelforge.eval.screens.effects import CellEffects

__all__ = ["collected", "summary"]

_RESAMPLES, _MOST_RESAMPLED = 1000, 2000


def collected(effects: Iterable[CellEffects]) -> dict[str, np.ndarray]:
    """Return the effects in all cells as long arrays: ``cell``, ``tested`` and the fields of :class:`CellEffects`."""
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("cell", "tested", "shift", "goal_shift", "random", "deviation", "variance")
    }
    for each in effects:
        parts["cell"].append(np.full(len(each.tested), each.cell, dtype=np.int64))
        parts["tested"].append(each.tested.astype(np.int32))
        for name in ("shift", "goal_shift", "random", "deviation", "variance"):
            values = getattr(each, name)
            if values is not None:
                parts[name].append(values.astype(np.float32))
    empty = {"cell": np.int64, "tested": np.int32}
    found = {name: np.concatenate([np.zeros(0, empty.get(name, np.float32)), *own]) for name, own in parts.items()}
    if not parts["goal_shift"]:
        del found["goal_shift"]
    return found


def summary(
    found: dict[str, np.ndarray], num_sets: int, groups: Sequence[tuple[str, np.ndarray]], *, seed: int
) -> list[dict[str, Any]]:
    """Return a row for each group of cells and perturbation, those with the greatest effect first in each group.

    Parameters
    ----------
    found
        What :func:`collected` returned.
    num_sets
        Number of perturbations.
    groups
        Name and cells, as positions, of each group.
    seed
        Seed of the bootstrap.

    Returns
    -------
    Rows with ``group``, ``tested``, ``num_cells``, then of ``shift``, and ``goal_shift`` if there is a goal, the mean
    over cells with its 95 % bootstrap interval (``_low``, ``_high``; NaN below two cells), ``random_shift``, the mean
    effect of random genes in the same cells, and ``p_value`` and ``fdr`` (Benjamini & Hochberg 1995) over all rows.
    """
    measures = [name for name in ("shift", "goal_shift") if name in found]
    draws = _Draws(seed)
    rows = []
    for group, cells in groups:
        inside = np.flatnonzero(np.isin(found["cell"], cells))
        order = inside[np.lexsort((found[measures[-1]][inside], found["tested"][inside]))]
        bounds = np.searchsorted(found["tested"][order], np.arange(num_sets + 1))
        own = []
        for number in np.argsort(np.diff(bounds), kind="stable"):  # those of as many cells share resamples
            entries = order[bounds[number] : bounds[number + 1]]
            row = _row({name: values[entries] for name, values in found.items()}, measures, draws)
            own.append({"group": group, "tested": int(number), **row})
        own.sort(key=lambda row: row["tested"])
        rows += sorted(own, key=lambda row: np.nan_to_num(-row[measures[-1]], nan=np.inf))
    known = np.array([row["p_value"] for row in rows], dtype=np.float64)
    is_known = np.isfinite(known)
    adjusted = np.full(len(rows), np.nan)
    if is_known.any():
        adjusted[is_known] = false_discovery_control(known[is_known])
    for row, value in zip(rows, adjusted, strict=True):
        row["fdr"] = float(value)
    return rows


def _row(entries: dict[str, np.ndarray], measures: Sequence[str], draws: _Draws) -> dict[str, Any]:
    row: dict[str, Any] = {"num_cells": len(entries["cell"])}
    for name in measures:
        values = entries[name].astype(np.float64)
        row[name] = float(values.mean()) if len(values) else np.nan
        row[f"{name}_low"], row[f"{name}_high"] = draws.interval(values)
    random = entries["random"][np.isfinite(entries["random"])]
    variance = entries["variance"].sum(dtype=np.float64)
    z = entries["deviation"].sum(dtype=np.float64) / np.sqrt(variance) if variance > 0 else np.nan
    row["random_shift"] = float(random.mean(dtype=np.float64)) if len(random) else np.nan
    row["p_value"] = float(2 * norm.sf(abs(z)))
    return row


class _Draws:
    """Resamples of cells, made once for each number of cells. Values come sorted, whatever the order of the cells."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._kept: tuple[int, np.ndarray] = (0, np.zeros((0, 0)))

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """Return the middle 95 % of means of resampled values; of very many, mean and standard error say the same."""
        count = len(values)
        if count < 2:
            return np.nan, np.nan
        if count > _MOST_RESAMPLED:
            half = 1.96 * values.std(ddof=1) / np.sqrt(count)
            return float(values.mean() - half), float(values.mean() + half)
        if self._kept[0] != count:
            random = generator(self._seed, "screen", count)
            times = random.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
            self._kept = count, times.astype(np.float64) / count
        low, high = np.quantile(self._kept[1] @ np.sort(values), [0.025, 0.975])
        return float(low), float(high)
