"""From a screen to what a run trains on: means of training and validation conditions, and the fitted regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scmodelforge.eval.perturbation.splits import PerturbationSplit
from scmodelforge.finetuning.perturbation.expression import Expression, Means, condition_means
from scmodelforge.finetuning.perturbation.objective import Answers, Examples
from scmodelforge.finetuning.perturbation.prior import SetRidge, fit_set_ridge
from scmodelforge.finetuning.perturbation.screen import Screen

__all__ = ["Learned", "learn"]

_NUM_VECTORS = 8
#: Conditions that teach half of what there is to learn, for :attr:`Learned.trust`.
_HALF = 20


@dataclass(frozen=True)
class Learned:
    """What is known before the first step, all of it made of controls, training and validation conditions.

    Attributes
    ----------
    examples
        What batches are made of.
    ridge
        The regression on training conditions.
    known
        Tokens of the genes that training conditions perturb, ascending.
    vectors
        Components of the gene embeddings, shape (V, E).
    controls
        Mean expression of the controls of each covariate, shape (C, G).
    scale
        Root mean square of the training conditions' changes.
    own
        As of :class:`~scmodelforge.finetuning.perturbation.head.PerturbationHead`.
    trust
        As of there.
    dose_scale
        Mean and standard deviation of ``log1p`` of the training conditions' doses.
    """

    examples: Examples
    ridge: SetRidge
    known: np.ndarray
    vectors: np.ndarray
    controls: np.ndarray
    scale: float
    own: tuple[float, float]
    trust: tuple[float, float]
    dose_scale: tuple[float, float]


def learn(
    screen: Screen,
    split: PerturbationSplit,
    expression: Expression,
    sets: list[list[int]],
    *,
    gene_embeddings: np.ndarray,
    held_out_cells: np.ndarray,
) -> Learned:
    """Average what may be known, and fit the regression. Cells of test conditions are not read.

    Parameters
    ----------
    screen, split, expression
        The cells, what is held out, and what is predicted.
    sets
        Tokens of the perturbed genes of each of the screen's perturbations.
    gene_embeddings
        The base model's embedding of each token, shape (V, H).
    held_out_cells
        Positions of the control cells that are asked for validation conditions.
    """
    found = _averaged(screen, split, expression)
    keys, of_group, changes, is_train = found.keys, found.covariates, found.changes, found.is_train
    train_sets = [sets[number] for (number, _), own in zip(keys, is_train, strict=True) if own]
    known = np.unique(np.concatenate([np.array(own, dtype=np.int64) for own in train_sets]))
    vectors = _components(gene_embeddings)
    ridge = fit_set_ridge(
        train_sets,
        of_group[is_train],
        changes[is_train],
        found.noises[is_train],
        known=known,
        vectors=vectors,
        num_covariates=len(screen.covariates),
    )
    doses, dose_scale = _levels(screen, keys, is_train)
    padded = _padded([sets[number] for number, _ in keys])

    def answers(own: np.ndarray, **more: Any) -> Answers:
        return Answers(
            padded[own], of_group[own], None if doses is None else doses[own], changes[own].astype(np.float32), **more
        )

    without = np.stack([ridge.without_condition, ridge.without_genes]).astype(np.float32)
    train = answers(is_train, without=without, may_know=_may_know(padded[is_train], of_group[is_train]))
    is_held_out = np.zeros(len(screen.codes), dtype=bool)
    is_held_out[held_out_cells] = True
    examples = Examples(
        train, answers(~is_train) if (~is_train).any() else None, np.maximum(screen.covariate_codes, 0), is_held_out
    )
    scale = float(np.sqrt(np.square(changes[is_train]).mean())) or 1.0
    own = _own_change(
        train_sets, changes[is_train] - ridge.without_genes, found.controls, of_group[is_train], expression
    )
    return Learned(examples, ridge, known, vectors, found.controls.means, scale, own, _trust(train), dose_scale)


@dataclass(frozen=True)
class _Averages:
    """Training and validation conditions: perturbation and dose, covariate, change with its noise, and which part."""

    keys: list[tuple[int, float]]
    covariates: np.ndarray
    changes: np.ndarray
    noises: np.ndarray
    is_train: np.ndarray
    controls: Means


def _averaged(screen: Screen, split: PerturbationSplit, expression: Expression) -> _Averages:
    place = {group: number for number, group in enumerate(screen.groups)}
    chosen = [place[group] for group in (*split.train, *split.validation)]
    keys, codes = _by_dose(screen, chosen)
    order = {name: number for number, name in enumerate(screen.covariates)}
    codes[screen.controls] = len(keys) + screen.covariate_codes[screen.controls]
    every = condition_means(expression, codes, len(keys) + len(screen.covariates))
    means, controls = every.part(slice(len(keys))), every.part(slice(len(keys), None))
    covariates = np.array([order[screen.groups[number].covariate] for number, _ in keys], dtype=np.int64)
    train = set(split.train)
    is_train = np.array([screen.groups[number] in train for number, _ in keys])
    changes, noises = means.means - controls.means[covariates], means.noises + controls.noises[covariates]
    return _Averages(keys, covariates, changes, noises, is_train, controls)


def _levels(
    screen: Screen, keys: list[tuple[int, float]], is_train: np.ndarray
) -> tuple[np.ndarray | None, tuple[float, float]]:
    """Return the standardised logarithm of each condition's dose, and mean and deviation of those trained on."""
    if screen.doses is None:
        return None, (0.0, 1.0)
    doses = np.array([np.log1p(dose) for _, dose in keys])
    mean, spread = float(doses[is_train].mean()), float(doses[is_train].std()) or 1.0
    return ((doses - mean) / spread).astype(np.float32), (mean, spread)


def _by_dose(screen: Screen, chosen: list[int]) -> tuple[list[tuple[int, float]], np.ndarray]:
    """Return perturbations with a dose each, and which of them each cell is of, -1 for none of them."""
    codes = np.full(len(screen.codes), -1)
    keys: list[tuple[int, float]] = []
    order = np.argsort(screen.codes, kind="stable")
    ends = np.searchsorted(screen.codes[order], np.arange(len(screen.groups) + 1))
    for number in chosen:
        cells = order[ends[number] : ends[number + 1]]
        doses = np.zeros(len(cells)) if screen.doses is None else screen.doses[cells]
        own, places = np.unique(doses, return_inverse=True)
        codes[cells] = len(keys) + places
        keys += [(number, float(dose)) for dose in own]
    return keys, codes


def _padded(sets: list[list[int]]) -> np.ndarray:
    found = np.full((len(sets), max(map(len, sets))), -1, dtype=np.int64)
    for row, tokens in zip(found, sets, strict=True):
        row[: len(tokens)] = tokens
    return found


def _may_know(tokens: np.ndarray, covariates: np.ndarray) -> np.ndarray:
    """Return which genes of each training condition are perturbed in others, and in those that share none of them.

    The same genes in the same covariate at another dose are no other condition.
    """
    distinct = np.unique(np.column_stack([covariates, tokens]), axis=0)[:, 1:]
    present, counts = np.unique(distinct[distinct >= 0], return_counts=True)
    several = np.isin(tokens, present[counts > 1]) & (tokens >= 0)
    return np.stack([several, np.zeros_like(several)])


def _trust(train: Answers) -> tuple[float, float]:
    """Return how much is to be believed of interactions and of unknown genes, by what there is to learn them from."""
    assert train.may_know is not None
    together = len(np.unique(train.tokens[train.may_know[0].sum(axis=1) > 1], axis=0))
    genes = len(np.unique(train.tokens[train.tokens >= 0]))
    return together / (together + _HALF), genes / (genes + _HALF)


def _components(embeddings: np.ndarray) -> np.ndarray:
    """Return principal components of gene embeddings, shape (V, E), of unit mean square length."""
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0)
    sizes, axes = np.linalg.eigh(centred.T @ centred)
    kept = axes[:, ::-1][:, : min(_NUM_VECTORS, int((sizes > sizes[-1] * 1e-9).sum()))]
    found = centred @ kept
    length = np.sqrt(np.square(found).sum(axis=1).mean())
    return np.asarray(found / (length or 1.0))


def _own_change(
    sets: list[list[int]], residuals: np.ndarray, controls: Means, covariates: np.ndarray, expression: Expression
) -> tuple[float, float]:
    """Return constant and share of control by which perturbed genes change themselves, beside what others predict."""
    column = {token: place for place, token in enumerate(expression.tokens.tolist())}
    found = [
        (controls.means[covariate, column[tokens[0]]], residual[column[tokens[0]]])
        for tokens, residual, covariate in zip(sets, residuals, covariates, strict=True)
        if len(tokens) == 1 and tokens[0] in column
    ]
    if len(found) < 4:
        return 0.0, 0.0
    table = np.array(found)
    design = np.column_stack([np.ones(len(table)), table[:, 0]])
    solution = np.linalg.solve(design.T @ design + 0.1 * np.eye(2), design.T @ table[:, 1])
    return float(solution[0]), float(solution[1])
