"""What a model predicts for perturbations, beside what was measured: read from AnnData files, aligned by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from scmodelforge._errors import ConfigError, DataError, listed, nearest
from scmodelforge.eval.perturbation.alignment import check_stored, shared_genes
from scmodelforge.eval.perturbation.baselines import Training
from scmodelforge.eval.perturbation.cells import ConditionCells, Expression, stable_rows
from scmodelforge.eval.perturbation.conditions import CONTROL, Conditions, Group
from scmodelforge.eval.perturbation.scales import Scale, check_counts
from scmodelforge.eval.perturbation.scores import Comparison
from scmodelforge.eval.scope import scope_hash

__all__ = ["PerturbationPredictions", "read_predictions"]


@dataclass(frozen=True)
class PerturbationPredictions:
    """What ``BenchmarkInputs.predictions`` holds for the benchmarks of perturbations.

    Attributes
    ----------
    comparison
        Predicted and real cells of the perturbations that are scored.
    training
        Means of the training conditions, all that baselines are made of.
    facts
        How the files were read: scale, columns, genes and conditions left out. Kept with every record.
    """

    comparison: Comparison
    training: Training
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.training.check_held_out(self.comparison.groups)

    @property
    def num_seen(self) -> list[int]:
        """How many of each perturbation's genes were trained on alone, in the same covariate."""
        return [self.training.num_seen(group) for group in self.comparison.groups]

    def predicting(self, predicted: Expression) -> PerturbationPredictions:
        """Return other predictions of the same perturbations, such as a baseline's."""
        mine = self.comparison
        return PerturbationPredictions(
            Comparison(predicted, mine.real, mine.groups, mine.genes), self.training, self.facts
        )


def read_predictions(
    predicted: Any,
    real: Any,
    *,
    scale: Scale,
    condition: str,
    control: str,
    covariates: Sequence[str] = (),
    train: Iterable[tuple[str, str]] | None = None,
    test: Iterable[tuple[str, str]] | None = None,
) -> PerturbationPredictions:
    """Align predicted with real cells. A file may have one row a condition (pseudobulk means) or many (cells).

    Parameters
    ----------
    predicted
        AnnData with predicted expression. Without controls of its own the real ones are taken.
    real
        AnnData with what was measured: controls, the perturbations that are scored, and those trained on.
    scale
        What the values of both files are: ``log1p`` of normalised counts, or ``counts``, which are normalised to
        10,000 a cell over the genes that both files have, and logged here. It is never guessed.
    condition
        obs column of both files with the perturbation.
    control
        Its value that means control.
    covariates
        obs columns of both files, such as the cell line, in which a perturbation is one of its own.
    train
        Covariate and condition of all that was trained on. ``None`` takes every real condition without a prediction.
    test
        Those that are scored; ``None`` is all that are predicted and measured.

    Raises
    ------
    ConfigError
        If the scale is not declared, or a column or the control is not there.
    DataError
        If nothing can be scored, genes do not fit, a condition that is scored was trained on, a file has no ``X``, or
        its values contradict the scale.
    """
    if scale not in get_args(Scale):
        msg = f"scale is {scale!r}; say what the values are: log1p (logged, normalised) or counts (--scale)."
        raise ConfigError(msg)
    for adata, origin in ((real, "real data (--data)"), (predicted, "predictions")):
        check_stored(adata, origin)
    columns = shared_genes(real, predicted)
    conditions = _conditions(predicted, real, condition, control)
    ours = _groups(real, condition, covariates, conditions, "real data (--data)")
    theirs = _groups(predicted, condition, covariates, conditions, "predictions")
    known = [_known_groups(pairs, conditions, has_covariates=bool(covariates)) for pairs in (train, test)]
    scored, left_out = _scored(ours, theirs, *known)
    truth = ConditionCells(real.X, _rows(real, ours), columns.real, scale, "real cells")
    own = ConditionCells(predicted.X, _rows(predicted, theirs), columns.predicted, scale, "predictions")
    cells = _with_controls(own, truth, scored)
    may_be_logged = _check_scale(truth, own, scored)
    training = _training(truth, columns.genes, known[0], set(theirs), set(scored))
    facts = {
        "scale": scale,
        "condition_column": condition,
        "covariate_columns": list(covariates),
        "num_genes": len(columns.genes),
        "scored_genes": scope_hash(columns.genes),
        "scored_conditions": scope_hash(scored),
        "num_genes_not_predicted": columns.num_missing,
        "num_genes_not_measured": columns.num_extra,
        "predicted_control": "own" if isinstance(cells, ConditionCells) else "real",
        "num_training_conditions": len(training.means),
        **left_out,
        **({"largest_prediction": own.seen.largest} if may_be_logged else {}),
    }
    return PerturbationPredictions(Comparison(cells, truth, scored, columns.genes), training, facts)


@dataclass(frozen=True)
class _WithControls:
    """Predicted cells with the real controls."""

    predicted: ConditionCells
    real: ConditionCells
    memo: dict = field(default_factory=dict)

    def home(self, group: Group) -> ConditionCells:
        return self.real if group.perturbation == CONTROL else self.predicted

    def size(self, group: Group) -> int:
        return self.home(group).size(group)

    def mean(self, group: Group) -> np.ndarray:
        return self.home(group).mean(group)

    def cells(self, group: Group) -> Any:
        return self.home(group).cells(group)


def _with_controls(cells: ConditionCells, truth: ConditionCells, scored: Sequence[Group]) -> Expression:
    lacking = {group.covariate for group in scored if group.control not in cells.rows}
    if not lacking:
        return cells
    if len(lacking) < len({group.covariate for group in scored}):
        msg = (
            f"the predictions have controls for some covariates and none for {', '.join(sorted(lacking))}; give "
            "controls for all of them, or for none to have the real ones taken."
        )
        raise DataError(msg)
    return _WithControls(cells, truth)


def _check_scale(truth: ConditionCells, own: ConditionCells, scored: Sequence[Group]) -> bool:
    """Look at all values that are scored; return whether predictions that are said to be counts may be logged."""
    for group in sorted({*scored, *(group.control for group in scored)}):
        truth.mean(group)  # is remembered
    for group in scored:
        own.mean(group)  # its controls may be the measured ones, and say nothing of the predictions
    return own.scale == "counts" and check_counts(truth.seen, own.seen)


def _conditions(predicted: Any, real: Any, condition: str, control: str) -> Conditions:
    values = [_texts(real, condition, "real data (--data)"), _texts(predicted, condition, "predictions")]
    if control not in set(values[0]):
        Conditions.of(sorted(set(values[0]) - {""}), control=control)  # says so
    return Conditions.of(sorted({*values[0], *values[1]} - {""}), control=control)


def _groups(
    adata: Any, condition: str, covariates: Sequence[str], conditions: Conditions, origin: str
) -> dict[Group, np.ndarray]:
    """Return the rows of each group in the order of the file. Cells without a condition belong to none."""
    own = np.array(conditions.names(list(_texts(adata, condition, origin))))
    parts = [_texts(adata, column, origin) for column in covariates]
    where = np.array(["|".join(each) for each in zip(*parts, strict=True)]) if parts else np.full(len(own), "")
    rows: dict[Group, list[int]] = defaultdict(list)
    for row, (covariate, name) in enumerate(zip(where, own, strict=True)):
        if name:
            rows[Group(str(covariate), str(name))].append(row)
    return {group: np.array(rows[group], dtype=np.int64) for group in sorted(rows)}


def _rows(adata: Any, groups: Mapping[Group, np.ndarray]) -> dict[Group, np.ndarray]:
    names = np.asarray(adata.obs_names, dtype=str)
    return {group: stable_rows(rows, names, adata.X) for group, rows in groups.items()}


def _texts(adata: Any, column: str, origin: str) -> np.ndarray:
    if column not in adata.obs:
        msg = f"the {origin} have no obs column '{column}'.{nearest(column, map(str, adata.obs.columns))}"
        raise ConfigError(f"{msg} There are: {', '.join(map(str, adata.obs.columns)) or 'none'}.")
    values = adata.obs[column]
    return np.where(values.isna(), "", values.astype(str))


def _known_groups(
    pairs: Iterable[tuple[str, str]] | None, conditions: Conditions, *, has_covariates: bool
) -> set[Group] | None:
    if pairs is None:
        return None
    found = {Group(covariate, conditions.name(name)) for covariate, name in pairs}
    wrong = sorted(group.perturbation for group in found if bool(group.covariate) != has_covariates)
    if wrong:  # one that is not recognised could be scored and trained on
        what = "names no covariate, and --covariate" if has_covariates else "names a covariate, and no --covariate"
        msg = (
            f"the training condition '{wrong[0]}' {what} is given; write covariate, tab and condition in each line if "
            "and only if there are covariates."
        )
        raise ConfigError(msg)
    return found


def _scored(
    real: Mapping[Group, Any], predicted: Mapping[Group, Any], train: set[Group] | None, test: set[Group] | None
) -> tuple[tuple[Group, ...], dict[str, Any]]:
    """Return the groups to score, and what was left out."""
    given = {group for group in predicted if group.perturbation != CONTROL}
    scored = {group for group in given if group in real and (test is None or group in test)}
    seen = sorted(group.label for group in scored & (train or set()))
    if seen:
        msg = (
            f"{len(seen)} of {len(scored)} conditions that would be scored were trained on ({listed(seen, 3)}), "
            "however they are spelt; leave them out of the predictions, or name those to score in a split file."
        )
        raise DataError(msg)
    if not scored:
        msg = (
            f"no condition is predicted, measured and held out: {len(given)} are predicted "
            f"({listed(sorted(group.label for group in given), 3) or 'none'}), and the real data have "
            f"{listed(sorted(group.label for group in real), 3)}; check --condition and --covariate."
        )
        raise DataError(msg)
    without = sorted(group.label for group in scored if group.control not in real)
    if without:
        msg = f"the real data have no control for {listed(without, 3)}; give controls of every covariate."
        raise DataError(msg)
    facts = {
        "num_predicted_not_measured": len(given - set(real)),
        "num_test_not_predicted": 0 if test is None else len((test & set(real)) - given),
        "num_predicted_not_scored": len(given - scored),
    }
    return tuple(sorted(scored)), facts


def _training(
    truth: ConditionCells, genes: tuple[str, ...], train: set[Group] | None, predicted: set[Group], scored: set[Group]
) -> Training:
    """Average the training conditions. What is scored or only predicted is never among them."""
    measured = {group for group in truth.rows if group.perturbation != CONTROL}
    chosen = measured - predicted - scored if train is None else measured & train
    if train and not chosen:
        msg = (
            f"none of the {len(train)} training conditions ({listed(sorted(group.label for group in train), 3)}) is in "
            f"the real data, which have {listed(sorted(group.label for group in measured), 3)}; correct their names."
        )
        raise DataError(msg)
    covariates = {group.covariate for group in (*chosen, *scored)}
    controls = {name: Group(name, CONTROL) for name in covariates}
    return Training(
        genes,
        means={group: truth.mean(group) for group in sorted(chosen) if group.control in truth.rows},
        controls={name: truth.mean(group) for name, group in sorted(controls.items()) if group in truth.rows},
    )
