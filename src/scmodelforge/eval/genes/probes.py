"""Can labels of genes be read off their vectors? Logistic regression, fitted on some genes and scored on others."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scmodelforge.data.draws import generator, mix
from scmodelforge.eval.genes.vectors import gene_keys
from scmodelforge.eval.metrics import RESAMPLES
from scmodelforge.eval.ranking import Ranking

__all__ = ["ProbeScores", "probe", "stratified_folds"]


@dataclass(frozen=True, slots=True)
class ProbeScores:
    """Scores of held-out genes, one ranking for each repeat, fold and label (one for two labels).

    Attributes
    ----------
    rankings, genes, truths
        Of each the ranking of its genes, their numbers, and whether they have the label.
    labels
        Label of each ranking, by its number.
    converged
        Whether every fit did.
    """

    rankings: list[Ranking]
    genes: list[np.ndarray]
    truths: list[np.ndarray]
    labels: list[int]
    converged: bool

    def aurocs(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Return the AUROC of each ranking; NaN where not defined. ``weights`` says how often each gene counts."""
        found = [
            ranking.scores(truth, None if weights is None else weights[genes])["auroc"]
            for ranking, genes, truth in zip(self.rankings, self.genes, self.truths, strict=True)
        ]
        return np.array(found)

    def bootstrap(self, num_genes: int, *, seed: int, purpose: str) -> np.ndarray:
        """Return the mean AUROC of genes drawn with replacement, shape (resamples,); the fits stay as they are."""
        random = generator(seed, "bootstrap", purpose)
        draws = random.multinomial(num_genes, np.full(num_genes, 1 / num_genes), size=RESAMPLES)
        found = [self.aurocs(weights) for weights in draws]
        return np.array([np.nanmean(each) if np.isfinite(each).any() else np.nan for each in found])


def probe(
    features: np.ndarray, codes: np.ndarray, names: Sequence[str], *, num_folds: int, num_repeats: int, seed: int
) -> ProbeScores:
    """Fit and score by cross-validation, each gene being held out once in every repeat.

    Columns are standardised by the genes that are fitted on; classes weigh alike, however many genes they have.

    Parameters
    ----------
    features
        Shape (n, F).
    codes
        Label of each gene, 0 to L - 1, each with at least ``num_folds`` genes, shape (n,).
    names
        Names of the genes, n of them: they say which fold a gene is in.
    num_folds, num_repeats
        Folds of each repeat, and repeats with other folds.
    seed
        Seed of the folds.
    """
    from scipy.special import log_softmax
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    num_labels = int(codes.max()) + 1
    scored = [1] if num_labels == 2 else list(range(num_labels))
    found = ProbeScores([], [], [], [], True)
    has_converged = True
    for repeat in range(num_repeats):
        folds = stratified_folds(codes, names, num_folds=num_folds, repeat=repeat, seed=seed)
        for fold in range(num_folds):
            held, fitted = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            scaler = StandardScaler().fit(features[fitted])
            model = LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced")
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ConvergenceWarning)
                model.fit(scaler.transform(features[fitted]), codes[fitted])
            has_converged &= not any(issubclass(each.category, ConvergenceWarning) for each in caught)
            likely = model.decision_function(scaler.transform(features[held]))  # (n,) of two labels, else (n, L)
            likely = likely[:, None] if num_labels == 2 else log_softmax(likely, axis=1)  # unlike shares, 1 is no tie
            for label in scored:
                found.rankings.append(Ranking.of(likely[:, 0 if num_labels == 2 else label]))
                found.genes.append(held)
                found.truths.append(codes[held] == label)
                found.labels.append(label)
    return ProbeScores(found.rankings, found.genes, found.truths, found.labels, has_converged)


def stratified_folds(codes: np.ndarray, names: Sequence[str], *, num_folds: int, repeat: int, seed: int) -> np.ndarray:
    """Return the fold of each gene, shape (n,), such that folds differ by at most one gene of each label."""
    draws = mix(seed, "folds of genes", repeat, gene_keys(names))
    folds = np.empty(len(codes), dtype=np.int64)
    for code in np.unique(codes):
        members = np.flatnonzero(codes == code)
        folds[members[np.argsort(draws[members], kind="stable")]] = np.arange(len(members)) % num_folds
    return folds
