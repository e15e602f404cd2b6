"""Multinomial logistic regression, preconditioned, so that embeddings with alike columns take seconds.

The minimum is that of scikit-learn's ``LogisticRegression(C=1)``: cross-entropy summed over the cells and half the
squared weights, intercepts free. Embeddings of transformers have columns that are nearly the same; gradients then
point past the minimum, and L-BFGS needs a thousand steps. Here it works on weights along the principal axes of the
columns, divided by the square root of what the loss curves there, which leaves some fifty steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Softmax", "fit_softmax"]

_TOLERANCE = 1e-6  # of the preconditioned gradient of the mean loss
_MOST_ROTATED = 1024  # columns; beyond, finding the axes would take longer than it saves
_MOST_DOUBLE = 2_000_000  # numbers in the embeddings; beyond, they are multiplied in single precision


@dataclass(frozen=True)
class Softmax:
    """A fitted regression.

    Attributes
    ----------
    weights, intercepts
        Shape (H, L) and (L,), float64.
    has_converged, num_steps
        Whether the steps allowed were enough, and how many were made.
    """

    weights: np.ndarray
    intercepts: np.ndarray
    has_converged: bool
    num_steps: int

    def probabilities(self, points: np.ndarray) -> np.ndarray:
        """Return the probability of each label, shape (n, L), float64."""
        scores = points @ self.weights + self.intercepts
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(scores / scores.sum(axis=1, keepdims=True))


def fit_softmax(points: np.ndarray, codes: np.ndarray, *, max_iter: int) -> Softmax:
    """Fit labels by the columns of points.

    Parameters
    ----------
    points
        Standardised columns, shape (n, H).
    codes
        Label of each cell, shape (n,), 0 to L - 1, all of which occur, at least two.
    max_iter
        Most steps.
    """
    from scipy.optimize import minimize

    dtype = np.float64 if points.size <= _MOST_DOUBLE else np.float32
    loss = _Loss.of(np.ascontiguousarray(points, dtype=dtype), codes)
    found = minimize(
        loss,
        np.zeros(loss.scale.size),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iter, "gtol": _TOLERANCE, "ftol": 64 * np.finfo(np.float64).eps, "maxls": 50},
    )
    # In single precision the last digits of the loss are noise, on which a line search may end: that is the minimum.
    is_flat = bool(np.abs(found.jac).max() <= 100 * _TOLERANCE)
    weights = loss.unscaled(found.x)
    return Softmax(
        weights=loss.axes @ weights[:-1],
        intercepts=weights[-1],
        has_converged=bool(found.success or (found.nit < max_iter and is_flat)),
        num_steps=int(found.nit),
    )


@dataclass(frozen=True)
class _Loss:
    points: np.ndarray  # along their principal axes, (n, H)
    codes: np.ndarray
    axes: np.ndarray  # (H, H)
    scale: np.ndarray  # (H + 1, L), the last row for intercepts
    penalty: float

    @classmethod
    def of(cls, points: np.ndarray, codes: np.ndarray) -> _Loss:
        num_cells, width = points.shape
        shares = np.bincount(codes) / num_cells
        # With two labels scikit-learn has one score, w, and the penalty w^2 / 2; here it is the difference of two.
        penalty = 2.0 if len(shares) == 2 else 1.0
        if width <= _MOST_ROTATED:
            curvature, axes = np.linalg.eigh((points.T @ points).astype(np.float64))
            points = points @ axes.astype(points.dtype)
        else:
            curvature, axes = np.full(width, float(num_cells)), np.eye(width)
        curvature = np.append(np.maximum(curvature, 0), num_cells)
        free = np.append(np.full(width, penalty), 0.0)
        scale = 1 / np.sqrt(np.outer(curvature, shares * (1 - shares)) + free[:, None])
        return cls(points, codes, axes, scale, penalty)

    def unscaled(self, given: np.ndarray) -> np.ndarray:
        return given.reshape(self.scale.shape) * self.scale

    def __call__(self, given: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean loss and its gradient."""
        num_cells = len(self.points)
        weights = self.unscaled(given)
        scores = self.points @ weights[:-1].astype(self.points.dtype)
        scores += weights[-1].astype(scores.dtype)
        scores -= scores.max(axis=1, keepdims=True)
        rows = np.arange(num_cells)
        loss = -scores[rows, self.codes].sum(dtype=np.float64)
        np.exp(scores, out=scores)
        sums = scores.sum(axis=1)
        loss += np.log(sums).sum(dtype=np.float64) + self.penalty / 2 * (weights[:-1] ** 2).sum()
        scores /= sums[:, None]
        scores[rows, self.codes] -= 1
        gradient = np.empty_like(weights)
        gradient[:-1] = self.points.T @ scores + self.penalty * weights[:-1]
        gradient[-1] = scores.sum(axis=0, dtype=np.float64)
        return float(loss) / num_cells, (gradient * self.scale).ravel() / num_cells
