"""Scores of classes predicted for genes, and a guess that knows how much genes are expressed and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from scmodelforge.eval.base import Record

__all__ = ["NAME", "expression_features", "guess_by_expression", "score_genes"]

#: What the benchmark is called in records.
NAME = "gene_classification"

_TARGET_SUM = 10_000.0
_RESAMPLES = 500


def score_genes(
    truth: np.ndarray,
    found: Mapping[str, np.ndarray],
    record: Callable[..., Record],
    *,
    num_skipped: int = 0,
    seed: int = 0,
    benchmark: str = NAME,
) -> list[Record]:
    """Score predicted classes of held-out genes.

    Parameters
    ----------
    truth
        Their classes, shape (n,).
    found
        Predictions by who made them, each shape (n,); ``model`` first.
    record
        Makes a record of benchmark, representation, metric and value.
    num_skipped
        Held-out genes that no cell expresses.
    seed
        Seed of the bootstrap.
    benchmark
        Name in records.

    Returns
    -------
    Of each prediction ``accuracy`` and ``macro_f1`` (over classes that held-out genes have), with 95 % intervals by
    resampling genes.
    """
    if not len(truth):
        return []
    draws = np.random.default_rng(seed).integers(0, len(truth), (_RESAMPLES, len(truth)))
    records: list[Record] = []
    for metric, measure in (("accuracy", _accuracy), ("macro_f1", _macro_f1)):
        values = {key: measure(truth, own) for key, own in found.items()}
        for key, own in found.items():
            spread = np.percentile([measure(truth[rows], own[rows]) for rows in draws], [2.5, 97.5])
            row: dict[str, Any] = {
                "interval": [float(each) for each in spread],
                "n": len(truth),
                "n_skipped": num_skipped,
                "baselines": {other: value for other, value in values.items() if other != key}
                if key == "model"
                else {},
                "params": {"scored": "held-out genes"},
            }
            records.append(record(benchmark, key, metric, values[key], **row))
    return records


def expression_features(counts: Any) -> np.ndarray:
    """Return of each gene the mean, the standard deviation and how often it is seen.

    Parameters
    ----------
    counts
        Counts, CSR (n, G).

    Returns
    -------
    Shape (G, 3): of log(1 + counts per ten thousand), and the share of cells with any.
    """
    import scipy.sparse as sp

    totals = np.asarray(counts.sum(axis=1)).ravel()
    logged = (sp.diags(_TARGET_SUM / np.maximum(totals, 1e-12)) @ counts).tocsr()
    logged.data = np.log1p(logged.data)
    mean = np.asarray(logged.mean(axis=0)).ravel()
    squares = np.asarray(logged.multiply(logged).mean(axis=0)).ravel()
    seen = np.asarray((counts > 0).mean(axis=0)).ravel()
    return np.column_stack([mean, np.sqrt(np.maximum(squares - mean**2, 0)), seen])


def guess_by_expression(features: np.ndarray, classes: np.ndarray, asked: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Return classes by logistic regression on how much genes are expressed.

    Parameters
    ----------
    features, classes
        Of the genes that are learned from, shapes (m, F) and (m,).
    asked
        Features of other genes, shape (n, F).
    seed
        Seed of the fit.
    """
    from sklearn.linear_model import LogisticRegression

    if not len(asked):
        return classes[:0]
    mean, sd = features.mean(axis=0), features.std(axis=0).clip(min=1e-12)
    fitted = LogisticRegression(max_iter=1000, random_state=seed).fit((features - mean) / sd, classes)
    found: np.ndarray = fitted.predict((asked - mean) / sd)
    return found


def _accuracy(truth: np.ndarray, found: np.ndarray) -> float:
    return float((truth == found).mean())


def _macro_f1(truth: np.ndarray, found: np.ndarray) -> float:
    scores = []
    for name in np.unique(truth):
        right = ((truth == name) & (found == name)).sum()
        scores.append(2 * right / ((truth == name).sum() + (found == name).sum()))
    return float(np.mean(scores))
