"""What means of training conditions alone say of other conditions: a ridge regression on sets of perturbed genes.

A condition's change from control is a sum of a constant, a part for each perturbed gene (one that all genes share, one
of its own, one that depends on the gene's vector) and a part that all combinations share. No change, the mean change,
the additive and a linear model are special cases. How much each part is drawn towards zero is learned from training
conditions alone: against the noise that a mean of so many cells has, by how well conditions are predicted that are left
out (each alone, and together with all others of its genes), and for each gene's own part by expectation maximisation
(automatic relevance: MacKay 1992, doi:10.1162/neco.1992.4.3.415), so that strong effects are kept and weak ones shrunk.

What is predicted of a training condition that was left out is kept as well: what is trained on top has to see what
this model does not know of new conditions, not what it remembers of old ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from scmodelforge.data.draws import mix

__all__ = ["NUM_COMMON", "SetRidge", "fit_set_ridge", "set_features"]

#: Features that stand before those of single genes: constant, number of genes, whether it is a combination.
NUM_COMMON = 3
#: Variances of these, and of the part by the gene's vector; that of a gene's own part is 1 in the mean.
_CONSTANT, _SHARED, _COMBINED, _VECTORS = (0.0, 0.1), (0.0, 0.03, 0.1, 0.3), (0.0, 0.2), (0.0, 0.1, 0.4)
#: How much of all parts is the same in all covariates.
_ACROSS = (0.5, 0.9)
_RELEVANCE = (0.02, 30.0)
_ROUNDS = 3
#: By how much a part must lower the sum of the logarithms of two errors to be used.
_PART = 0.05
#: Most conditions that the choice is made on.
_MOST = 400


@dataclass(frozen=True)
class SetRidge:
    """A fitted regression.

    Attributes
    ----------
    weights
        Change by covariate, feature and gene, shape (C, F, G), float32; features as of :func:`set_features`.
    without_condition
        What is predicted of each training condition by the others, shape (n, G). The same genes in the same covariate
        at another dose are no other condition.
    without_genes
        What is predicted of it by the conditions that share no gene with it, shape (n, G).
    choice
        The variances that were chosen, for the record.
    """

    weights: np.ndarray
    without_condition: np.ndarray
    without_genes: np.ndarray
    choice: dict[str, float]


def set_features(sets: Sequence[Sequence[int]], known: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the features of sets of genes, shape (n, F): common ones, a column a known gene, sums of vectors.

    Parameters
    ----------
    sets
        Tokens of the perturbed genes.
    known
        Tokens that have a column of their own, ascending, shape (K,).
    vectors
        Vector of each token, shape (V, E).
    """
    found = np.zeros((len(sets), NUM_COMMON + len(known) + vectors.shape[1]))
    for row, tokens in zip(found, sets, strict=True):
        row[:NUM_COMMON] = (1, len(tokens), len(tokens) > 1)
        row[NUM_COMMON : NUM_COMMON + len(known)] = np.isin(known, tokens)
        row[NUM_COMMON + len(known) :] = vectors[list(tokens)].sum(axis=0)
    return found


def fit_set_ridge(
    sets: Sequence[Sequence[int]],
    covariates: np.ndarray,
    changes: np.ndarray,
    noises: np.ndarray,
    *,
    known: np.ndarray,
    vectors: np.ndarray,
    num_covariates: int = 1,
) -> SetRidge:
    """Fit the regression to training conditions.

    Parameters
    ----------
    sets
        Tokens of the perturbed genes of each condition.
    covariates
        Covariate of each, shape (n,), int.
    changes
        Mean change from control of each, shape (n, G).
    noises
        Variance that each of these has by chance, as a sum over genes, shape (n,).
    known, vectors
        As of :func:`set_features`.
    num_covariates
        How many covariates there are.
    """
    own = slice(NUM_COMMON, NUM_COMMON + len(known))
    features = set_features(sets, known, vectors)
    scale = _scale(changes, noises, features[:, 1].sum())
    fit = _Fit(features, own, covariates, changes, noises / scale, np.ones(features.shape[1]), 1.0)
    for number in range(_ROUNDS):
        fit = fit.chosen(has_covariates=num_covariates > 1)
        if number < _ROUNDS - 1:
            fit = fit.with_relevance(scale)
    alpha = fit.inverse @ changes
    weights = np.empty((num_covariates, features.shape[1], changes.shape[1]), dtype=np.float32)
    for covariate in range(num_covariates):
        share = np.where(covariates == covariate, 1.0, fit.across)
        weights[covariate] = (features * fit.variances).T @ (alpha * share[:, None])
    alone, together = (changes - _residuals(fit.inverse, out) @ changes for out in _ways_out(fit))
    names = {"constant": 0, "shared": 1, "combined": 2, **({"vectors": -1} if vectors.shape[1] else {})}
    choice = {name: float(fit.variances[place]) for name, place in names.items()}
    return SetRidge(
        weights,
        alone,
        together,
        {**choice, "across": fit.across, "noise": float(noises.mean() / scale)},
    )


def _scale(changes: np.ndarray, noises: np.ndarray, size: float) -> float:
    """Return the variance that a gene's own part has in the mean, as a sum over output genes."""
    found = float((np.square(changes).sum(axis=1) - noises).sum() / size)
    return max(found, float(noises.mean()) / 10, 1e-12)


@dataclass(frozen=True)
class _Fit:
    """Training conditions, and the variances of a fit to them."""

    features: np.ndarray
    own: slice
    covariates: np.ndarray
    changes: np.ndarray
    noises: np.ndarray
    variances: np.ndarray
    across: float

    @property
    def same(self) -> np.ndarray:
        """How much is the same in the covariates of two conditions, shape (n, n)."""
        return np.where(self.covariates[:, None] == self.covariates[None, :], 1.0, self.across)

    @property
    def inverse(self) -> np.ndarray:
        """The inverse of the conditions' covariance, shape (n, n)."""
        covariance = (self.features * self.variances) @ self.features.T * self.same
        return np.linalg.inv(covariance + np.diag(self.noises))

    @property
    def shares_gene(self) -> np.ndarray:
        """Which conditions have a gene in common, shape (n, n)."""
        return np.asarray(self.features[:, self.own] @ self.features[:, self.own].T > 0)

    @property
    def is_same(self) -> np.ndarray:
        """Which conditions are of the same genes and covariate, as those that differ by dose alone, shape (n, n)."""
        rows = np.column_stack([self.covariates, self.features[:, 1], self.features[:, self.own]])
        places = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
        return np.asarray(places[:, None] == places[None, :])

    def chosen(self, *, has_covariates: bool) -> _Fit:
        """Return the fit with those variances of the other parts that predict left-out conditions best."""
        draws = mix(0, "conditions of a prior", np.arange(len(self.features)))
        part = self._of(np.sort(np.argsort(draws, kind="stable")[:_MOST]))
        has_vectors = self.own.stop < self.features.shape[1]
        found = min(part._candidates(has_covariates, has_vectors=has_vectors), key=_Fit._error)
        return replace(self, variances=found.variances, across=found.across)

    def with_relevance(self, scale: float) -> _Fit:
        """Return the fit with another variance for each gene's own part: its expectation under the present fit."""
        own, inverse = self.features[:, self.own], self.inverse
        before = self.variances[self.own]
        found = np.zeros(own.shape[1])
        covariates = np.unique(self.covariates)
        for covariate in covariates:
            share = np.where(self.covariates == covariate, 1.0, self.across)
            spread = own * before * share[:, None]
            mean = spread.T @ (inverse @ self.changes)
            left = before - np.einsum("nk,nm,mk->k", spread, inverse, spread, optimize=True)
            found += np.square(mean).sum(axis=1) / scale + left
        variances = self.variances.copy()
        variances[self.own] = np.clip(found / len(covariates), *_RELEVANCE)
        return replace(self, variances=variances)

    def _of(self, rows: np.ndarray) -> _Fit:
        own = {name: getattr(self, name)[rows] for name in ("features", "covariates", "changes", "noises")}
        return replace(self, **own)

    def _candidates(self, has_covariates: bool, *, has_vectors: bool) -> Iterator[_Fit]:
        grid = product(_CONSTANT, _SHARED, _COMBINED, _VECTORS if has_vectors else (0.0,))
        for (*common, of_vectors), across in product(grid, _ACROSS if has_covariates else (1.0,)):
            variances = self.variances.copy()
            variances[:NUM_COMMON], variances[self.own.stop :] = common, of_vectors
            yield replace(self, variances=variances, across=across)

    def _error(self) -> float:
        """Return how badly left-out conditions are predicted: the sum of the logarithms of both mean squares."""
        inverse, products = self.inverse, self.changes @ self.changes.T
        total = 0.0
        for out in _ways_out(self):
            residuals = _residuals(inverse, out)
            total += float(np.log(max(((residuals @ products) * residuals).sum(), 1e-300)))
        others = [*self.variances[:NUM_COMMON], *self.variances[self.own.stop :][:1]]
        return total + _PART * int(np.count_nonzero(others))


def _ways_out(fit: _Fit) -> tuple[np.ndarray, np.ndarray]:
    """Return which conditions are left out with each: itself at all doses, and all that share a gene, shape (n, n)."""
    return fit.is_same, fit.is_same | fit.shares_gene


def _residuals(inverse: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return what takes changes to the residuals of conditions when those of a row of ``out`` are left out, (n, n)."""
    found = np.empty_like(inverse)
    for row, is_out in enumerate(out):
        fold = np.flatnonzero(is_out)
        if len(fold) == 1:
            found[row] = inverse[row] / inverse[row, row]
            continue
        weights = np.linalg.solve(inverse[np.ix_(fold, fold)], (fold == row).astype(float))
        found[row] = weights @ inverse[fold]  # the matrix is symmetric
    return found
