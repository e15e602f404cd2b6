"""Why a score of a perturbation is not defined: the one cause that is seen, not those that could be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from scmodelforge.eval.perturbation.cells import Expression
from scmodelforge.eval.perturbation.conditions import Group

__all__ = ["UNKNOWN", "Flat", "constant_side", "counted", "flat_causes", "lacking_cells", "real_cells_lacking"]

UNKNOWN = "it is not defined for these perturbations"

Flat = Literal["profile", "change"]
_SEVERAL = 2


def counted(causes: Sequence[str]) -> str:
    """Return causes in words; of several each with the number of perturbations that it is the cause of."""
    counts = Counter(causes)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(
        f"{count:,} perturbation{'s' if count > 1 else ''}: {cause}" for cause, count in sorted(counts.items())
    )


def lacking_cells(predicted: Expression, real: Expression, groups: Sequence[Group]) -> list[str]:
    """Return for each perturbation which cells a metric of cells lacks; empty where it lacks none."""
    sides = [_cause_of(predicted, groups, "predicted", "these are means"), _of_real(real, groups)]
    return [ours or theirs for ours, theirs in zip(*sides, strict=True)]


def real_cells_lacking(real: Expression, groups: Sequence[Group]) -> list[str]:
    """Do as :func:`lacking_cells` for a metric that needs cells of the real data alone."""
    return _of_real(real, groups)


def flat_causes(
    predicted: np.ndarray, truth: np.ndarray, of: Flat, *, only_zero: bool = False, sides: tuple[str, ...] = ()
) -> list[str]:
    """Return for each pair of rows which is flat, so that there is no correlation; empty where neither is.

    Parameters
    ----------
    predicted, truth
        Profiles, or changes from control, shape (P, G).
    of
        What they are.
    only_zero
        Only a row of zeros counts, as for a cosine; else one with the same number everywhere.
    sides
        ``predicted`` or ``measured``, where only one side matters.
    """
    found = []
    for pair in zip(predicted, truth, strict=True):
        words = [
            _flat(row, side, of, only_zero=only_zero)
            for row, side in zip(pair, ("predicted", "measured"), strict=True)
            if not sides or side in sides
        ]
        found.append(" and ".join(word for word in words if word))
    return found


def constant_side(predicted: np.ndarray, real: np.ndarray, what: str) -> str:
    """Return why numbers of perturbations, shape (P,) each, have no correlation over these.

    Parameters
    ----------
    predicted, real
        The numbers of those perturbations that are correlated.
    what
        What they are, such as ``numbers of DE genes``.
    """
    if len(real) < _SEVERAL:
        has = "perturbation has" if len(real) == 1 else "perturbations have"
        return f"{len(real)} {has} such numbers, and a correlation over perturbations takes two"
    side = "real" if (real == real[0]).all() else "predicted"
    return f"the {side} {what} are the same for all {len(real):,} perturbations"


def _of_real(real: Expression, groups: Sequence[Group]) -> list[str]:
    return _cause_of(real, groups, "real", "the real data are means")


def _cause_of(cells: Expression, groups: Sequence[Group], side: str, are_means: str) -> list[str]:
    sizes = [cells.size(group) for group in groups]
    if all(size == 1 for size in sizes):
        return [f"{are_means}, one row a condition; {side} cells are needed"] * len(groups)
    found = []
    for group, size in zip(groups, sizes, strict=True):
        control = cells.size(group.control)
        lacking = f"only {size} {side} cell" if size < _SEVERAL else ""
        lacking = lacking or (f"only {control} {side} control cell" if control < _SEVERAL else "")
        found.append(f"{lacking}; two are needed" if lacking else "")
    return found


def _flat(row: np.ndarray, side: str, of: Flat, *, only_zero: bool) -> str:
    is_zero = not row.any()
    if not (is_zero or (not only_zero and (row == row[0]).all())):
        return ""
    if of == "profile":
        return f"the {side} profile is {'zero' if is_zero else 'the same number'} for every gene"
    return f"no change from control is {side}" if is_zero else f"the same change from control is {side} for every gene"
