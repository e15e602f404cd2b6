"""Metrics of PerturBench (Wu et al. 2024, arXiv:2408.10609; code at d357dfa).

Cells are first averaged (``average``), or averaged and compared with control (``logfc``: log2 of the mean + 0.1 over
that of the control of the *same* file, on values that are logarithms already). Each is then scored, and ranked: 0 if
a perturbation's own prediction is the nearest to it, about 0.5 for predictions drawn at random. Its R2 takes the
prediction for the truth and the truth for the prediction, and so does ours.
"""

from __future__ import annotations

import numpy as np

from scmodelforge.eval.perturbation.causes import UNKNOWN, Flat, flat_causes
from scmodelforge.eval.perturbation.means import cosine, mae, mse, pearson, r2, rmse
from scmodelforge.eval.perturbation.ranks import ALONE, Distance, distances_to, ranks_within
from scmodelforge.eval.perturbation.scores import Comparison, Score

__all__ = ["log_fold_changes", "perturbench_scores"]

_PSEUDOCOUNT = 0.1
_METRICS = {"rmse": rmse, "mse": mse, "mae": mae, "pearson": pearson, "cosine": cosine, "r2": lambda x, y: r2(y, x)}
_ERRORS = frozenset({"rmse", "mse", "mae"})
#: What its pipelines report by default.
_HEADLINE = frozenset({"average_rmse", "logfc_cosine", "rank_average_rmse", "rank_logfc_cosine"})


def perturbench_scores(comparison: Comparison) -> list[Score]:
    """Return every metric on averages and on log fold changes, and the ranks of the two that it reports by default."""
    profiles = {
        "average": (comparison.predicted_means, comparison.real_means),
        "logfc": (
            log_fold_changes(comparison.predicted_means, comparison.predicted_control),
            log_fold_changes(comparison.real_means, comparison.real_control),
        ),
    }
    scores = [
        Score(
            f"{kind}_{name}",
            metric(predicted, truth),
            higher_is_better=name not in _ERRORS,
            is_detail=f"{kind}_{name}" not in _HEADLINE,
            undefined=_causes(name, predicted, truth, "profile" if kind == "average" else "change"),
            params={"pseudocount": _PSEUDOCOUNT} if kind == "logfc" else {},
        )
        for kind, (predicted, truth) in profiles.items()
        for name, metric in _METRICS.items()
    ]
    return [*scores, _ranks(comparison, "average_rmse", *profiles["average"]), _cosine_ranks(comparison, profiles)]


def log_fold_changes(means: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Return log2(mean + 0.1) - log2(control + 0.1); 0 where that is not a number."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.log2(means + _PSEUDOCOUNT) - np.log2(control + _PSEUDOCOUNT)
    return np.where(np.isfinite(found), found, 0.0)


def _causes(name: str, predicted: np.ndarray, truth: np.ndarray, of: Flat) -> str | list[str]:
    """Return why a metric is not defined for a perturbation; errors always are."""
    if name in _ERRORS:
        return UNKNOWN
    if name == "r2":
        return flat_causes(predicted, truth, of, sides=("predicted",))
    return flat_causes(predicted, truth, of, only_zero=name == "cosine")


def _cosine_ranks(comparison: Comparison, profiles: dict[str, tuple[np.ndarray, np.ndarray]]) -> Score:
    return _ranks(comparison, "logfc_cosine", *profiles["logfc"])


def _ranks(comparison: Comparison, name: str, predicted: np.ndarray, truth: np.ndarray) -> Score:
    distance: Distance = "cosine" if name.endswith("cosine") else "l2"  # which orders rows as the RMSE does

    def to_predictions(row: int, others: np.ndarray) -> np.ndarray:
        return distances_to(truth[row], predicted[others], distance)

    return Score(
        f"rank_{name}",
        ranks_within(comparison.covariates, to_predictions),
        higher_is_better=False,
        undefined=ALONE,
        params={"best": 0, "ranked": "predictions by distance to each real perturbation", "ties": "half"},
    )
