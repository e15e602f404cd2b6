"""The metrics a paper would show, one of each kind: changes, errors, DE genes, ranks both ways, distributions.

Changes are from the mean of the *real* control, on both sides. DE genes are chosen on real cells by the t-test with
overestimated variance, and the most expressed genes on real control cells: predictions choose nothing.
"""

from __future__ import annotations

import math

import numpy as np

from scmodelforge.eval.perturbation import means
from scmodelforge.eval.perturbation.conditions import Group
from scmodelforge.eval.perturbation.de import overestimated_t, top_genes
from scmodelforge.eval.perturbation.distances import DISTANCES, MOST_CELLS
from scmodelforge.eval.perturbation.perturbench import perturbench_scores
from scmodelforge.eval.perturbation.scores import TOO_FEW_CELLS, Comparison, Score
from scmodelforge.eval.perturbation.vcc import discrimination

__all__ = ["de_genes", "headline_scores"]

_NUM_EXPRESSED = 1000
_NO_CHANGE = "no change from control is predicted or measured"
_RANKS = frozenset({"rank_average_rmse"})
_MAIN_DISTANCES = ("edistance", "mmd_linear")


def headline_scores(comparison: Comparison, *, num_de_genes: int = 20) -> list[Score]:
    """Return these metrics.

    Parameters
    ----------
    comparison
        What is compared.
    num_de_genes
        DE genes of each perturbation that some of the metrics are taken over.
    """
    predicted, truth, control = comparison.predicted_means, comparison.real_means, comparison.real_control
    return [
        Score("pearson_delta", means.pearson_delta(predicted, truth, control), undefined=_NO_CHANGE),
        *_of_de_genes(comparison, num_de_genes),
        _of_expressed_genes(comparison),
        Score("rmse", means.rmse(predicted, truth), higher_is_better=False),
        Score("mse", means.mse(predicted, truth), higher_is_better=False, is_detail=True),
        Score("mae", means.mae(predicted, truth), higher_is_better=False, is_detail=True),
        Score("pearson", means.pearson(predicted, truth), is_detail=True, undefined="a profile is flat"),
        Score("r2", means.r2(predicted, truth), is_detail=True, undefined="the real profile is flat"),
        discrimination(comparison, "l1"),
        *(score for score in perturbench_scores(comparison) if score.metric in _RANKS),
        *(_distance(comparison, name) for name in DISTANCES if name not in ("mse", "mean_absolute_error")),
    ]


def de_genes(comparison: Comparison, group: Group, num_genes: int) -> np.ndarray:
    """Return the numbers of the genes that a perturbation changes most, as the real cells have it."""
    return top_genes(overestimated_t(comparison.real, group), num_genes)


def _of_de_genes(comparison: Comparison, num_genes: int) -> list[Score]:
    metrics = {
        "pearson_delta": (means.pearson_delta, True),
        "mse": (lambda predicted, truth, control: means.mse(predicted, truth), False),
        "direction_agreement": (means.direction_agreement, True),
    }
    values = {name: np.full(len(comparison.groups), math.nan) for name in metrics}
    for row, group in enumerate(comparison.groups):
        if comparison.real.size(group) < 2 or comparison.real.size(group.control) < 2:
            continue
        genes = de_genes(comparison, group, num_genes)
        sides = (comparison.predicted_means, comparison.real_means, comparison.real_control)
        for name, (metric, _) in metrics.items():
            values[name][row] = float(metric(*(side[row, genes] for side in sides)))
    params = {"de_test": "t-test_overestim_var of real cells", "num_genes": num_genes}
    reason = f"{_NO_CHANGE} in these genes, or there are fewer than two real cells"
    return [
        Score(f"{name}_top{num_genes}", values[name], higher_is_better=is_high, undefined=reason, params=params)
        for name, (_, is_high) in metrics.items()
    ]


def _of_expressed_genes(comparison: Comparison) -> Score:
    rows = zip(comparison.predicted_means, comparison.real_means, comparison.real_control, strict=True)
    values = []
    for predicted, truth, control in rows:
        genes = means.top_expressed(control, _NUM_EXPRESSED)
        values.append(float(means.l2(predicted[genes], truth[genes])))
    params = {"num_genes": min(_NUM_EXPRESSED, len(comparison.genes)), "chosen_by": "mean of the real control"}
    return Score(f"l2_top{_NUM_EXPRESSED}_control", np.array(values), higher_is_better=False, params=params)


def _distance(comparison: Comparison, name: str) -> Score:
    distance = DISTANCES[name]

    def of(group: Group) -> float:
        if not comparison.has_cells(group):
            return math.nan
        return distance(comparison.predicted, group, comparison.real, group)

    return Score(
        name,
        comparison.each(of),
        higher_is_better=False,
        is_detail=name not in _MAIN_DISTANCES,
        undefined=f"{TOO_FEW_CELLS}, or a profile is flat",
        params={"space": "genes", "most_cells": MOST_CELLS},
    )
