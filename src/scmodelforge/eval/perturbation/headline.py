"""The metrics a paper would show, one of each kind: changes, errors, DE genes, ranks both ways, distributions.

Changes are from the mean of the *real* control, on both sides. DE genes are chosen on real cells by the t-test with
overestimated variance, and the most expressed genes on real control cells: predictions choose nothing.
"""

from __future__ import annotations

import math

import numpy as np

from scmodelforge.eval.perturbation import means
from scmodelforge.eval.perturbation.causes import UNKNOWN, flat_causes, real_cells_lacking
from scmodelforge.eval.perturbation.conditions import Group
from scmodelforge.eval.perturbation.de import overestimated_t, top_genes
from scmodelforge.eval.perturbation.distances import DISTANCES, MOST_CELLS
from scmodelforge.eval.perturbation.perturbench import perturbench_scores
from scmodelforge.eval.perturbation.scores import Comparison, Score
from scmodelforge.eval.perturbation.vcc import discrimination

__all__ = ["de_genes", "headline_scores"]

_NUM_EXPRESSED = 1000
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
    of_changes = flat_causes(predicted - control, truth - control, "change")
    of_profiles = flat_causes(predicted, truth, "profile")
    of_truth = flat_causes(predicted, truth, "profile", sides=("measured",))
    return [
        Score("pearson_delta", means.pearson_delta(predicted, truth, control), undefined=of_changes),
        *_of_de_genes(comparison, num_de_genes),
        _of_expressed_genes(comparison),
        Score("rmse", means.rmse(predicted, truth), higher_is_better=False),
        Score("mse", means.mse(predicted, truth), higher_is_better=False, is_detail=True),
        Score("mae", means.mae(predicted, truth), higher_is_better=False, is_detail=True),
        Score("pearson", means.pearson(predicted, truth), is_detail=True, undefined=of_profiles),
        Score("r2", means.r2(predicted, truth), is_detail=True, undefined=of_truth),
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
    reasons = real_cells_lacking(comparison.real, comparison.groups)
    for row, group in enumerate(comparison.groups):
        if reasons[row]:
            continue
        genes = de_genes(comparison, group, num_genes)
        sides = (comparison.predicted_means, comparison.real_means, comparison.real_control)
        predicted, truth, control = (side[row, genes] for side in sides)
        for name, (metric, _) in metrics.items():
            values[name][row] = float(metric(predicted, truth, control))
        (flat,) = flat_causes((predicted - control)[None], (truth - control)[None], "change")
        reasons[row] = f"{flat} in the DE genes" if flat else ""
    params = {"de_test": "t-test_overestim_var of real cells", "num_genes": num_genes}
    return [
        Score(f"{name}_top{num_genes}", values[name], higher_is_better=is_high, undefined=reasons, params=params)
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
        undefined=_causes(comparison, name),
        params={"space": "genes", "most_cells": MOST_CELLS},
    )


def _causes(comparison: Comparison, name: str) -> list[str]:
    """Return why a distance is not defined for each perturbation."""
    means = comparison.predicted_means, comparison.real_means
    flat = [UNKNOWN] * len(comparison.groups)
    if name in ("pearson_distance", "spearman_distance"):
        flat = flat_causes(*means, "profile")
    elif name == "cosine_distance":
        flat = flat_causes(*means, "profile", only_zero=True)
    elif name == "r2_distance":
        flat = flat_causes(*means, "profile", sides=("predicted",))
    return [lacking or other for lacking, other in zip(comparison.lacking_cells, flat, strict=True)]
