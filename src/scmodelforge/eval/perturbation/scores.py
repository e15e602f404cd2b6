"""What is compared, and a score of it: one number for each perturbation, undefined where it is NaN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from scmodelforge.eval.perturbation.causes import UNKNOWN, counted, lacking_cells
from scmodelforge.eval.perturbation.cells import Expression
from scmodelforge.eval.perturbation.conditions import Group

__all__ = ["Comparison", "Score"]


@dataclass(frozen=True)
class Comparison:
    """Predicted and real cells of the same perturbations over the same genes.

    Attributes
    ----------
    predicted, real
        The cells. Each has controls of its own for every covariate.
    groups
        The perturbations that are scored.
    genes
        Names of the genes as :func:`~scmodelforge.eval.perturbation.conditions.gene_key` gives them.
    """

    predicted: Expression
    real: Expression
    groups: tuple[Group, ...]
    genes: tuple[str, ...]

    @cached_property
    def predicted_means(self) -> np.ndarray:
        """Predicted means, shape (P, G)."""
        return np.array([self.predicted.mean(group) for group in self.groups])

    @cached_property
    def real_means(self) -> np.ndarray:
        """Observed means, shape (P, G)."""
        return np.array([self.real.mean(group) for group in self.groups])

    @cached_property
    def predicted_control(self) -> np.ndarray:
        """Mean of the predictions' own control for each perturbation, shape (P, G)."""
        return np.array([self.predicted.mean(group.control) for group in self.groups])

    @cached_property
    def real_control(self) -> np.ndarray:
        """Mean of the real control for each perturbation, shape (P, G)."""
        return np.array([self.real.mean(group.control) for group in self.groups])

    @cached_property
    def covariates(self) -> np.ndarray:
        """Covariate of each perturbation, shape (P,), str. Ranks are among perturbations of one covariate."""
        return np.array([group.covariate for group in self.groups])

    @cached_property
    def lacking_cells(self) -> list[str]:
        """Which cells a metric of cells lacks for each perturbation; empty where it lacks none."""
        return lacking_cells(self.predicted, self.real, self.groups)

    def has_cells(self, group: Group) -> bool:
        """Tell whether a perturbation and its control have several cells on both sides, so that these can be tested."""
        sides = (self.predicted, self.real)
        return all(side.size(each) > 1 for side in sides for each in (group, group.control))

    def each(self, score: Callable[[Group], float]) -> np.ndarray:
        """Return a number for each perturbation, shape (P,)."""
        return np.array([score(group) for group in self.groups], dtype=np.float64)


@dataclass(frozen=True)
class Score:
    """One metric of a comparison.

    Attributes
    ----------
    metric
        Its name with its variant.
    values
        One for each perturbation, shape (P,), NaN where it is not defined.
    higher_is_better, is_detail
        As in :class:`~scmodelforge.eval.base.Record`.
    undefined
        Why values are not defined: of all, or of each perturbation, empty where one is.
    undefined_over
        Why a score that is no mean is not defined, though ``values`` are.
    of_rows
        For a score that is no mean: its value on some of the perturbations, by their numbers. ``values`` are then
        what a table shows of single perturbations.
    params
        Settings of the metric.
    """

    metric: str
    values: np.ndarray
    higher_is_better: bool = True
    is_detail: bool = False
    undefined: str | Sequence[str] = UNKNOWN
    undefined_over: str = UNKNOWN
    of_rows: Callable[[np.ndarray], float] | None = None
    params: dict[str, Any] = field(default_factory=dict)

    def cause(self, row: int) -> str:
        """Return why the value of a perturbation is not defined."""
        return self.undefined if isinstance(self.undefined, str) else self.undefined[row] or UNKNOWN

    def reason(self) -> str | None:
        """Return why values are not defined, or the score is not; ``None`` if all are."""
        lacking = np.flatnonzero(~np.isfinite(self.values))
        if len(lacking):
            return counted([self.cause(int(row)) for row in lacking])
        return None if np.isfinite(self.value(np.arange(len(self.values)))) else self.undefined_over

    def value(self, rows: np.ndarray) -> float:
        """Return the score on some of the perturbations, by their numbers: the mean of what is defined, or NaN."""
        if self.of_rows is not None:
            return self.of_rows(rows)
        chosen = self.values[rows]
        chosen = chosen[np.isfinite(chosen)]
        return float(chosen.mean()) if len(chosen) else float("nan")
