"""Scores as records: the mean over perturbations with its interval, the table of single ones, the noise ceiling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.draws import generator
from scmodelforge.eval.base import BenchmarkInputs, Record
from scmodelforge.eval.metrics import MANY_RESAMPLES, interval
from scmodelforge.eval.perturbation.ceiling import ceilings
from scmodelforge.eval.perturbation.inputs import PerturbationPredictions
from scmodelforge.eval.perturbation.scores import Comparison, Score

__all__ = ["predictions_of", "suite_records"]


def predictions_of(inputs: BenchmarkInputs, benchmark: str) -> PerturbationPredictions:
    """Return the predictions that a benchmark of perturbations was given.

    Raises
    ------
    DataError
        If they are something else, or are not there.
    """
    if not isinstance(inputs.predictions, PerturbationPredictions):
        msg = (
            f"benchmark '{benchmark}' scores predicted perturbations, and none are given; score a file of them with: "
            f"scmodelforge evaluate --predictions PRED.h5ad --data REAL.h5ad --eval {benchmark} --condition COLUMN "
            "--control NAME --scale log1p."
        )
        raise DataError(msg)
    return inputs.predictions


def suite_records(
    benchmark: str, inputs: BenchmarkInputs, score: Callable[[Comparison], Sequence[Score]], *, settings: str = ""
) -> list[Record]:
    """Score predictions and return a record for each metric.

    Parameters
    ----------
    benchmark
        Name of the benchmark.
    inputs
        What it was given.
    score
        Its metrics.
    settings
        What distinguishes this suite from others of the same benchmark.
    """
    predictions = predictions_of(inputs, benchmark)
    comparison = predictions.comparison
    highest = ceilings(comparison, f"{benchmark} {settings}", score, seed=inputs.seed)
    return [
        _record(benchmark, inputs, predictions, each, noise_ceiling=highest.get(each.metric))
        for each in score(comparison)
    ]


def _record(
    benchmark: str,
    inputs: BenchmarkInputs,
    predictions: PerturbationPredictions,
    score: Score,
    *,
    noise_ceiling: float | None,
) -> Record:
    is_defined = np.isfinite(score.values)
    rows = np.flatnonzero(is_defined)
    value = score.value(rows)
    return inputs.record(
        benchmark,
        score.metric,
        value,
        interval=_interval(score, rows, seed=inputs.seed),
        noise_ceiling=noise_ceiling,
        n=len(rows),
        n_skipped=len(is_defined) - len(rows),
        skipped_reason=score.reason(),
        library=f"numpy {np.__version__}",
        params={**predictions.facts, **score.params, "seed": inputs.seed, "resamples": MANY_RESAMPLES},
        tables=_tables(predictions, score, rows),
        higher_is_better=score.higher_is_better,
        is_detail=score.is_detail,
    )


def _interval(score: Score, rows: np.ndarray, *, seed: int) -> list[float] | None:
    """Return the 95 % bootstrap interval over perturbations; ``None`` for fewer than two."""
    if len(rows) < 2:
        return None
    chosen = rows[generator(seed, "bootstrap", "perturbations").integers(len(rows), size=(MANY_RESAMPLES, len(rows)))]
    if score.of_rows is None:
        return interval(score.values[chosen].mean(axis=1))
    return interval(np.array([score.of_rows(each) for each in chosen]))


def _tables(predictions: PerturbationPredictions, score: Score, rows: np.ndarray) -> dict[str, Any]:
    groups, seen = predictions.comparison.groups, np.array(predictions.num_seen)
    each: dict[str, Any] = {
        "perturbation": [group.perturbation for group in groups],
        score.metric: [float(value) if np.isfinite(value) else None for value in score.values],
        "num_seen": [int(count) for count in seen],
    }
    if any(group.covariate for group in groups):
        each["covariate"] = [group.covariate for group in groups]
    tables = {"per_perturbation": each}
    if predictions.training.means:
        counts = sorted({(len(group.targets), count) for group, count in zip(groups, each["num_seen"], strict=True)})
        sizes = np.array([len(group.targets) for group in groups])
        parts = [rows[(sizes[rows] == size) & (seen[rows] == count)] for size, count in counts]
        values = [score.value(part) if len(part) else np.nan for part in parts]
        tables["by_num_seen"] = {
            "num_genes": [size for size, _ in counts],
            "num_seen": [count for _, count in counts],
            "n": [len(part) for part in parts],
            score.metric: [float(value) if np.isfinite(value) else None for value in values],
        }
    return tables
