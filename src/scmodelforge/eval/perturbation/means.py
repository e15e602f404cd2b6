"""Scores of predicted means: one number a perturbation from two rows of genes.

``truth``, ``predicted`` and ``control`` have the shape (P, G), rows are perturbations. What is not defined is NaN here
and counted by whoever makes a record of it.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "cosine",
    "direction_agreement",
    "l2",
    "mae",
    "mse",
    "pearson",
    "pearson_delta",
    "r2",
    "rmse",
    "spearman",
    "top_expressed",
]


def pearson(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the correlation of each pair of rows, shape (P,); NaN where a row is constant."""
    return cosine(
        np.where(_is_constant(predicted), 0.0, predicted - predicted.mean(axis=-1, keepdims=True)),
        np.where(_is_constant(truth), 0.0, truth - truth.mean(axis=-1, keepdims=True)),
    )


def pearson_delta(predicted: np.ndarray, truth: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Return the correlation of predicted with true changes from control; NaN where no change is predicted."""
    return pearson(predicted - control, truth - control)


def spearman(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the rank correlation of each pair of rows; ties share their mean rank; NaN where a row is constant."""
    from scipy.stats import rankdata

    return pearson(rankdata(predicted, axis=-1), rankdata(truth, axis=-1))


def cosine(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows, shape (P,); NaN where a row is zero."""
    products = (predicted * truth).sum(axis=-1)
    lengths = np.sqrt((predicted**2).sum(axis=-1) * (truth**2).sum(axis=-1))
    found = np.divide(products, lengths, out=np.full(np.shape(products), np.nan), where=lengths > 0)
    return np.clip(found, -1.0, 1.0)


def mse(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean squared error over genes, shape (P,)."""
    return np.asarray(((predicted - truth) ** 2).mean(axis=-1))


def rmse(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the root of the mean squared error over genes, shape (P,)."""
    return np.sqrt(mse(predicted, truth))


def mae(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean absolute error over genes, shape (P,)."""
    return np.asarray(np.abs(predicted - truth).mean(axis=-1))


def l2(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance over genes, shape (P,)."""
    return np.sqrt(((predicted - truth) ** 2).sum(axis=-1))


def r2(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return 1 - residual / total sum of squares over genes, shape (P,); NaN where the truth is constant."""
    total = ((truth - truth.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    residual = ((predicted - truth) ** 2).sum(axis=-1)
    return 1 - np.divide(residual, total, out=np.full(np.shape(total), np.nan), where=total > 0)


def direction_agreement(predicted: np.ndarray, truth: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Return the share of genes that are predicted to change in the true direction; no change has none."""
    return np.asarray((np.sign(predicted - control) == np.sign(truth - control)).mean(axis=-1))


def top_expressed(control: np.ndarray, num_genes: int) -> np.ndarray:
    """Return the genes with the highest mean in control, shape (num_genes,); ties in order of genes."""
    return np.argsort(-control, kind="stable")[:num_genes]


def _is_constant(rows: np.ndarray) -> np.ndarray:
    return np.asarray((rows == rows[..., :1]).all(axis=-1, keepdims=True))
