"""Labels that no training cell has: whether the confidence of a probe tells their cells."""

from __future__ import annotations

import numpy as np

from scmodelforge.data.draws import generator
from scmodelforge.eval.annotation.groups import group_folds
from scmodelforge.eval.annotation.probes import ProbeConfig, ProbeName, fit_probe, why_not
from scmodelforge.eval.cells import Cells

__all__ = ["KNOWN_REJECTED", "rejection_threshold"]

KNOWN_REJECTED = 0.05
"""Share of cells of known labels that the threshold may reject, as training cells have it."""

_FOLDS = 5


def rejection_threshold(probe: ProbeName, config: ProbeConfig, train: Cells, *, seed: int) -> float | None:
    """Return the confidence below which a cell is said to be of an unknown label.

    Training cells alone decide, each judged by a probe that was not fitted on it (cross-fitting): nor on its group, if
    they are of several groups or batches, since held-out cells are of new ones as a rule. The threshold is the 5 %
    quantile of the confidence of cells whose label the probe knew.

    Parameters
    ----------
    probe, config
        The probe and its settings.
    train
        Training cells.
    seed
        Seed of the folds of single cells.

    Returns
    -------
    The threshold; ``None`` if no fold can be fitted.
    """
    assert train.labels is not None
    folds = _folds(train, seed)
    found = []
    for fold in np.unique(folds):
        is_out = folds == fold
        points, labels = train.embeddings[~is_out], train.labels[~is_out]
        if why_not(probe, config, points, labels) is not None:
            continue
        fitted = fit_probe(probe, config, points, labels)
        known = is_out & np.isin(train.labels, fitted.names)
        if known.any():
            found.append(fitted.probabilities(train.embeddings[known]).max(axis=1))
    return float(np.quantile(np.concatenate(found), KNOWN_REJECTED)) if found else None


def _folds(train: Cells, seed: int) -> np.ndarray:
    for groups in (train.groups, train.batches):
        if groups is not None and len(np.unique(groups)) > 1:
            return group_folds(groups)
    order = generator(seed, "annotation folds").permutation(len(train))
    return np.asarray(order % _FOLDS)
