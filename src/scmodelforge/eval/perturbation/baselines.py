"""Predictions that need no model, from the means of the training conditions alone.

==================  ===================================================================================================
``no_change``       the control
``perturbed_mean``  the mean of the training perturbations, each counted once
``additive``        control plus the changes of each gene perturbed alone; one that was not seen alone adds nothing
``transfer``        control plus the perturbation's mean change in the other covariates
``linear``          Y = G K P (Ahlmann-Eltze, Huber & Anders 2025, doi:10.1038/s41592-025-02772-6), see ``linear.py``
``linear_random``   the same with noise for embeddings
``nearest``         control plus the change by the training perturbation whose genes are most alike
==================  ===================================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from scmodelforge._errors import DataError, listed
from scmodelforge.data.draws import mix
from scmodelforge.eval.perturbation.cells import Expression
from scmodelforge.eval.perturbation.conditions import CONTROL, Group
from scmodelforge.eval.perturbation.linear import GeneFactors, linear, nearest

__all__ = ["BaselineCells", "Training", "baseline_cells", "baseline_means", "baseline_names", "predicted_by_mean"]


@dataclass(frozen=True)
class Training:
    """All that a baseline may see: means of the training conditions and of controls, never a cell that is scored.

    Attributes
    ----------
    genes
        Names of the genes, in the order of the means.
    means
        Mean of each training perturbation, shape (G,).
    controls
        Mean of the control of each covariate, shape (G,).
    """

    genes: tuple[str, ...]
    means: Mapping[Group, np.ndarray]
    controls: Mapping[str, np.ndarray]

    def check_held_out(self, scored: Sequence[Group]) -> None:
        """Make sure that nothing that is scored is seen.

        Raises
        ------
        DataError
            If a perturbation is in both.
        """
        both = sorted(group.label for group in set(scored) & set(self.means))
        if both:
            msg = (
                f"{len(both)} perturbations are scored and trained on ({listed(both, 3)}); baselines made of them "
                "would have seen the answers. Leave them out of one side."
            )
            raise DataError(msg)

    def change(self, group: Group) -> np.ndarray | None:
        """Return the change from control of a training perturbation, shape (G,); ``None`` if it was not seen."""
        mean = self.means.get(group)
        return None if mean is None else mean - self.controls[group.covariate]

    def changes(self, covariate: str) -> dict[Group, np.ndarray]:
        """Return the changes of the covariate's perturbations; of all, if it has none."""
        return {group: mean - self.controls[group.covariate] for group, mean in self.means_like(covariate).items()}

    def means_like(self, covariate: str) -> dict[Group, np.ndarray]:
        """Return the means of the covariate's perturbations; of all, if it has none."""
        own = [group for group in self.means if group.covariate == covariate] or list(self.means)
        return {group: self.means[group] for group in own}

    def num_seen(self, group: Group) -> int:
        """Return how many of a perturbation's genes were seen alone in the same covariate."""
        return sum(Group(group.covariate, gene) in self.means for gene in group.targets)


def baseline_names(training: Training, scored: Sequence[Group], vectors: GeneFactors | None = None) -> list[str]:
    """Return the baselines that these training conditions allow.

    Without training conditions there is ``no_change`` alone. ``transfer`` needs a scored perturbation that was seen in
    another covariate; ``linear`` and ``nearest`` two training perturbations. Given vectors of genes add
    ``linear_given`` and ``nearest_given``.
    """
    names = ["no_change"]
    if training.means:
        names += ["perturbed_mean", "additive"]
    if any(_elsewhere(training, group) for group in scored):
        names.append("transfer")
    if len(training.means) > 1:
        names += ["linear", "linear_random", "nearest"]
        if vectors is not None:
            names += ["linear_given", "nearest_given"]
    return names


def baseline_means(
    name: str, training: Training, scored: Sequence[Group], *, seed: int = 0, vectors: GeneFactors | None = None
) -> dict[Group, np.ndarray]:
    """Return a baseline's means of some perturbations, shape (G,) each.

    Parameters
    ----------
    name
        One of :func:`baseline_names`.
    training
        What it is made of.
    scored
        What it predicts.
    seed
        Seed of the noise of ``linear_random``.
    vectors
        Given vectors of genes, for ``linear_given`` and ``nearest_given``.
    """
    training.check_held_out(scored)
    changes = {
        "no_change": _no_change,
        "perturbed_mean": _mean_change,
        "additive": _additive,
        "transfer": _transfer,
    }
    if name in changes:
        return {group: training.controls[group.covariate] + changes[name](training, group) for group in scored}
    found: dict[Group, np.ndarray] = {}
    for covariate in sorted({group.covariate for group in scored}):
        of_covariate = [group for group in scored if group.covariate == covariate]
        fit = nearest if name.startswith("nearest") else linear
        own = GeneFactors.named(name, training.genes, training.means_like(covariate), seed=seed, given=vectors)
        for group, change in fit(training.genes, training.changes(covariate), of_covariate, own).items():
            found[group] = training.controls[covariate] + change
    return found


def predicted_by_mean(
    name: str, training: Training, scored: Sequence[Group], *, vectors: GeneFactors | None = None
) -> list[Group]:
    """Return the perturbations for which a baseline of :func:`baseline_names` has nothing better than the mean change.

    That is where it needs vectors of perturbed genes, and none of a perturbation's genes, or no training perturbation,
    has one.
    """
    if not name.startswith(("linear", "nearest")):
        return []
    found = []
    for covariate in sorted({group.covariate for group in scored}):
        own = GeneFactors.named(name, training.genes, training.means_like(covariate), given=vectors)
        is_fitted = any(own.of(group) is not None for group in training.changes(covariate))
        of_covariate = [group for group in scored if group.covariate == covariate]
        found += [group for group in of_covariate if not is_fitted or own.of(group) is None]
    return found


@dataclass(frozen=True)
class BaselineCells:
    """Cells for predicted means: control cells whose genes are scaled to them, so that zeros stay zeros.

    ``mean`` is the predicted mean itself. It may be negative, or positive where no control cell expresses the gene:
    scaled cells have zeros there. There are as many cells as the real perturbation has, drawn from the controls by
    the perturbation's name.

    Attributes
    ----------
    means
        Predicted mean of each perturbation, shape (G,).
    real
        Real cells; only their controls, and the number of the others, are used.
    memo
        As of :class:`~scmodelforge.eval.perturbation.cells.Expression`.
    """

    means: Mapping[Group, np.ndarray]
    real: Expression
    memo: dict = field(default_factory=dict)

    def home(self, group: Group) -> Expression:
        """Return the real cells for controls, else these."""
        return self.real if group.perturbation == CONTROL else self

    def size(self, group: Group) -> int:
        """Return the number of cells."""
        most = self.real.size(group.control)
        return most if group.perturbation == CONTROL else min(self.real.size(group), most)

    def mean(self, group: Group) -> np.ndarray:
        """Return the predicted mean, or that of the real control, shape (G,)."""
        return self.real.mean(group) if group.perturbation == CONTROL else self.means[group]

    def cells(self, group: Group) -> Any:
        """Return control cells, scaled, shape (n, G)."""
        controls: Any = self.real.cells(group.control)
        if group.perturbation == CONTROL:
            return controls
        draws = mix(0, "cells of a baseline", group.label, np.arange(controls.shape[0]))
        chosen = controls[np.sort(np.argsort(draws, kind="stable")[: self.size(group)])]
        control = self.real.mean(group.control)
        wanted = np.maximum(self.means[group], 0)
        factors = np.divide(wanted, control, out=np.zeros_like(control), where=control > 0)
        return sp.csr_matrix(chosen.multiply(factors)) if sp.issparse(chosen) else chosen * factors


def baseline_cells(means: Mapping[Group, np.ndarray], real: Expression) -> BaselineCells:
    """Return a baseline's predictions as cells."""
    return BaselineCells(means, real)


def _no_change(training: Training, group: Group) -> np.ndarray:
    return np.zeros(len(training.genes))


def _mean_change(training: Training, group: Group) -> np.ndarray:
    return np.mean(list(training.changes(group.covariate).values()), axis=0)


def _additive(training: Training, group: Group) -> np.ndarray:
    single = (training.change(Group(group.covariate, gene)) for gene in group.targets)
    return sum((change for change in single if change is not None), np.zeros(len(training.genes)))


def _transfer(training: Training, group: Group) -> np.ndarray:
    elsewhere = _elsewhere(training, group)
    return np.mean(elsewhere, axis=0) if elsewhere else _mean_change(training, group)


def _elsewhere(training: Training, group: Group) -> list[np.ndarray]:
    others = [other for other in training.means if other.perturbation == group.perturbation]
    return [training.means[other] - training.controls[other.covariate] for other in others]
