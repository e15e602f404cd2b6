"""Scores of numbers predicted for cells, and a simple prediction to compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from scmodelforge.eval.annotation.groups import group_counts, group_weights
from scmodelforge.eval.base import Record
from scmodelforge.eval.baselines import pca_embedding

__all__ = ["NAME", "mean_absolute_error", "pearson", "r_squared", "ridge_on_components", "score_numbers"]

#: What the benchmark is called in records.
NAME = "regression"

_RESAMPLES = 500


def r_squared(truth: np.ndarray, found: np.ndarray) -> float:
    """Return 1 less the squared errors over those of the mean of the truth, both shape (n,); NaN if it is constant."""
    spread = ((truth - truth.mean()) ** 2).sum()
    return float(1 - ((truth - found) ** 2).sum() / spread) if spread else float("nan")


def pearson(truth: np.ndarray, found: np.ndarray) -> float:
    """Return the correlation of two vectors, shape (n,); NaN if one is constant."""
    first, second = truth - truth.mean(), found - found.mean()
    # A constant is not exactly its own mean.
    scales = [
        np.abs(each).max() > 1e-9 * max(np.abs(own).max(), 1e-300)
        for each, own in zip((first, second), (truth, found), strict=True)
    ]
    norm = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / norm) if all(scales) and norm else float("nan")


def mean_absolute_error(truth: np.ndarray, found: np.ndarray) -> float:
    """Return the mean of absolute errors, both shape (n,), in the unit of the truth."""
    return float(np.abs(truth - found).mean())


#: Each metric, and whether higher is better.
_METRICS: dict[str, tuple[Callable[[np.ndarray, np.ndarray], float], bool]] = {
    "r2": (r_squared, True),
    "pearson": (pearson, True),
    "mae": (mean_absolute_error, False),
}


def score_numbers(
    name: str,
    truth: np.ndarray,
    found: Mapping[str, np.ndarray],
    record: Callable[..., Record],
    *,
    groups: np.ndarray | None = None,
    group_key: str | None = None,
    seed: int = 0,
) -> list[Record]:
    """Score predictions of one column.

    Parameters
    ----------
    name
        The column, with which metrics are named.
    truth
        The numbers of held-out cells, shape (n,); cells with NaN are not scored.
    found
        Predictions of these cells by who made them, each shape (n,); ``model`` first.
    record
        Makes a record of benchmark, representation, metric and value.
    groups, group_key
        Group of each cell that is held out whole, such as its donor, shape (n,), str, empty where it has none; and
        their column.
    seed
        Seed of the bootstrap.

    Returns
    -------
    Of each prediction ``r2``, ``pearson`` and ``mae``, with 95 % intervals by resampling cells, and
    ``group_interval`` by resampling whole groups where there are three. A metric that is not defined, as the
    correlation with a constant, or any of fewer than two cells, has no value.
    """
    is_known = np.isfinite(truth)
    truth, rows = truth[is_known], {key: values[is_known] for key, values in found.items()}
    shared: dict[str, Any] = {"n": len(truth), "n_skipped": int((~is_known).sum()), "label_key": name}
    if len(truth) < 2:
        return [_unscored(record, key, metric, shared) for metric in _METRICS for key in found]
    known_groups = None if groups is None else groups[is_known]
    by_group = _group_draws(known_groups, seed)
    counts = group_counts(known_groups)
    records: list[Record] = []
    draws = np.random.default_rng(seed).integers(0, len(truth), (_RESAMPLES, len(truth)))
    for metric, (measure, is_better) in _METRICS.items():
        values = {key: measure(truth, own) for key, own in rows.items()}
        for key, own in rows.items():
            defined = np.isfinite(values[key])
            others = {other: value for other, value in values.items() if other != key and np.isfinite(value)}
            interval = _interval(measure, truth, own, draws) if defined else None
            of_groups = _interval(measure, truth, own, by_group) if defined and by_group is not None else None
            row: dict[str, Any] = {
                **shared,
                "interval": interval,
                "group_interval": of_groups,
                "group_key": None if of_groups is None else group_key,
                "params": dict(counts),
                "baselines": others if key == "model" else {},
                "higher_is_better": is_better,
                "skipped_reason": None if defined else "the predictions or the numbers are all the same",
            }
            records.append(record(NAME, key, f"{metric}_{name}", values[key] if defined else None, **row))
    return records


def ridge_on_components(counts: Any, numbers: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Predict numbers of cells from principal components of their counts.

    Parameters
    ----------
    counts
        CSR (n, G), training cells first.
    numbers
        Those of the training cells, shape (m, T); a row with NaN in a column is not fitted for it.
    seed
        Seed of the components.

    Returns
    -------
    Shape (n - m, T). The strength of the penalty is chosen by leave-one-out error on the training cells.
    """
    from sklearn.linear_model import RidgeCV

    rows = pca_embedding(counts, num_train=len(numbers), seed=seed).astype(np.float64)
    rows = (rows - rows[: len(numbers)].mean(axis=0)) / rows[: len(numbers)].std(axis=0).clip(min=1e-12)
    found = []
    for own in numbers.T:
        known = np.isfinite(own)
        fitted = RidgeCV(np.logspace(-2, 4, 13)).fit(rows[: len(numbers)][known], own[known])
        found.append(fitted.predict(rows[len(numbers) :]))
    return np.column_stack(found)


def _unscored(record: Callable[..., Record], key: str, metric: str, shared: dict[str, Any]) -> Record:
    reason = f"{shared['n']} of the held-out cells have a number in obs column '{shared['label_key']}'; two are needed"
    row = {**shared, "n": 0, "n_skipped": shared["n"] + shared["n_skipped"], "higher_is_better": _METRICS[metric][1]}
    return record(NAME, key, f"{metric}_{shared['label_key']}", None, skipped_reason=reason, **row)


def _group_draws(groups: np.ndarray | None, seed: int) -> list[np.ndarray] | None:
    """Return the rows of each draw of whole groups; ``None`` below three groups."""
    weights = None if groups is None else group_weights(groups, seed)
    if weights is None:
        return None
    rows = np.arange(len(weights))
    return [np.repeat(rows, times) for times in weights[:, :_RESAMPLES].T.astype(np.int64)]


def _interval(
    measure: Callable[[np.ndarray, np.ndarray], float],
    truth: np.ndarray,
    found: np.ndarray,
    draws: Iterable[np.ndarray],
) -> list[float]:
    values = np.array([measure(truth[rows], found[rows]) for rows in draws])
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return [float(low), float(high)]
