"""Scores of probabilities. Each takes weights of cells, one column a resample, so that a bootstrap is cheap."""

from __future__ import annotations

import numpy as np

__all__ = ["CALIBRATION_BINS", "auroc", "calibration_bins", "calibration_error", "macro_auroc", "mean_score", "tables"]

CALIBRATION_BINS = 15


def tables(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int], weights: np.ndarray) -> np.ndarray:
    """Count the cells of each pair of codes in each resample, shape (R, rows, columns), float64.

    Parameters
    ----------
    rows, columns
        Codes of the cells, shape (n,).
    shape
        Number of rows and columns.
    weights
        How often each cell counts, shape (n, R).
    """
    pairs = rows * shape[1] + columns
    size = shape[0] * shape[1]
    counts = [np.bincount(pairs, weights=column, minlength=size) for column in weights.T]
    return np.array(counts).reshape(-1, *shape)


def mean_score(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean of values of cells, shape (n,), with weights of shape (n, R), as shape (R,)."""
    return np.asarray(values @ weights / weights.sum(axis=0))


def auroc(scores: np.ndarray, is_positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the chance that a positive cell scores higher than a negative one, half a chance where they tie.

    Parameters
    ----------
    scores
        Shape (n,).
    is_positive
        Shape (n,), bool.
    weights
        How often each cell counts, shape (n, R).

    Returns
    -------
    Shape (R,); NaN where there are no positive or no negative cells.
    """
    order = np.argsort(scores, kind="stable")
    ranked, is_positive = scores[order], is_positive[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    # Negative cells between two positive ones may count as one tie: no pair changes, and few sums are left.
    has_positive = np.logical_or.reduceat(is_positive, starts)
    starts = starts[has_positive | np.append(True, has_positive[:-1])]
    total = np.asarray(weights[order], dtype=np.float32)  # whole numbers, exact in sums below 2 ** 24
    positive = np.add.reduceat(total * is_positive[:, None], starts, axis=0)  # (runs, R)
    negative = np.add.reduceat(total, starts, axis=0) - positive
    below = np.cumsum(negative, axis=0, dtype=np.float64) - negative / 2
    pairs = positive.sum(axis=0, dtype=np.float64) * negative.sum(axis=0, dtype=np.float64)
    wins = np.einsum("ij,ij->j", positive, below)
    return np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def macro_auroc(probabilities: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean over labels of the AUROC of each against all others, shape (R,).

    Parameters
    ----------
    probabilities
        Shape (n, K).
    codes
        Column of each cell's label, -1 if it has none, shape (n,). Labels without cells, or with all, do not count.
    weights
        How often each cell counts, shape (n, R).
    """
    totals = np.zeros(weights.shape[1])
    counts = np.zeros(weights.shape[1])
    for code in np.unique(codes[codes >= 0]):
        found = auroc(probabilities[:, code], codes == code, weights)
        is_defined = np.isfinite(found)
        totals[is_defined] += found[is_defined]
        counts += is_defined
    return np.divide(totals, counts, out=np.full(len(totals), np.nan), where=counts > 0)


def calibration_bins(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each confidence, shape (n,): bin b holds those in (b / 15, (b + 1) / 15]."""
    # Shares of votes lie on the bounds of bins, where a last digit must not decide.
    found = np.ceil(confidence * CALIBRATION_BINS - 1e-9).astype(np.int64) - 1
    return np.clip(found, 0, CALIBRATION_BINS - 1)


def calibration_error(confidence: np.ndarray, is_right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the expected calibration error (Guo et al. 2017, arXiv:1706.04599), shape (R,).

    The mean over cells of how far the accuracy in a cell's bin of confidence is from the mean confidence there.

    Parameters
    ----------
    confidence
        Probability of the label given, shape (n,).
    is_right
        Whether it is the true one, shape (n,).
    weights
        How often each cell counts, shape (n, R).
    """
    bins = calibration_bins(confidence)
    gaps = (is_right - confidence)[:, None] * weights
    total = sum(np.abs(gaps[bins == each].sum(axis=0)) for each in np.unique(bins))
    return np.asarray(total / weights.sum(axis=0))
