"""A screen as a task sees it: which cells are controls, what was done to the others, and what is held out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError, DataError, listed
from scmodelforge.data.genes import human_genes
from scmodelforge.data.perturbation.columns import columns_of_source, targets_of
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.eval.perturbation.conditions import CONTROL, Conditions, Group

__all__ = ["Columns", "Screen", "control_values", "find_columns", "read_screen", "tokens_of", "without"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Columns:
    """Where a screen says what was done.

    Attributes
    ----------
    condition
        obs column of the perturbation.
    control
        Its value that means control.
    covariate
        obs column in which a perturbation is one of its own, if there is one.
    dose
        obs column with doses, if there is one.
    """

    condition: str
    control: str
    covariate: str | None = None
    dose: str | None = None


@dataclass(frozen=True)
class Screen:
    """Cells by condition.

    Attributes
    ----------
    columns
        Where it stands.
    groups
        The perturbations, sorted.
    codes
        Place of each cell's group, -1 for controls, -2 for cells of none and those that are not read, shape (N,).
    covariates
        Names of the covariates that have controls.
    covariate_codes
        Covariate of each cell, -1 where it has none, shape (N,).
    doses
        Dose of each cell, NaN for controls that have none, shape (N,); ``None`` without doses.
    control_names
        The values that mean control.
    """

    columns: Columns
    groups: tuple[Group, ...]
    codes: np.ndarray
    covariates: tuple[str, ...]
    covariate_codes: np.ndarray
    doses: np.ndarray | None = None
    control_names: tuple[str, ...] = ()

    @property
    def controls(self) -> np.ndarray:
        """Positions of the control cells, ascending."""
        return np.flatnonzero(self.codes == -1)

    def doses_of(self, place: int) -> list[list[float]]:
        """Return each dose of a perturbation with its share of the cells; none without doses."""
        if self.doses is None:
            return []
        doses, counts = np.unique(self.doses[self.codes == place], return_counts=True)
        return np.column_stack([doses, counts / counts.sum()]).tolist()


def find_columns(
    source: CellSource, *, condition: str | None, control: str | None, covariate: str | None, dose: str | None
) -> Columns:
    """Return the columns that are named, and those that are not as they are found by name.

    Raises
    ------
    DataError
        If no column names perturbations, or no cell is a control.
    """
    found = columns_of_source(source) if condition is None or control is None else None
    if condition is None:
        if found is None:
            msg = (
                "no obs column says what was done to the cells; name it in finetune.condition_column. There are: "
                f"{listed(list(source.obs_columns), 8) or 'none'}."
            )
            raise DataError(msg)
        condition = found.perturbation
    if control is None:
        names = source.obs(condition)[1]
        if found is not None and found.perturbation == condition:
            control = found.control
        else:
            control = _control_among(names, condition)
        if control is None:
            msg = (
                f"no value of obs column '{condition}' means control ({listed(sorted(names), 5)}); name the one that "
                "does in finetune.control. Without control cells nothing can be predicted."
            )
            raise DataError(msg)
    return Columns(condition, control, covariate, dose)


def control_values(values: Sequence[str], control: str) -> tuple[str, ...]:
    """Return the values of a column by which nothing is perturbed: the control, and others that are one by name.

    Guides without a target often have a name each (``non-targeting_1``, ``non-targeting_2``, ...).
    """
    columns = Conditions.of({*values, control} - {""}, control=control).columns
    return tuple(sorted(value for value in values if value.strip() and not targets_of(value, columns)))


def read_screen(source: CellSource, columns: Columns, left_out: np.ndarray | None = None) -> Screen:
    """Read what was done to each cell. Perturbed cells of no dose, where the others have one, are of no condition.

    Parameters
    ----------
    source, columns
        The cells, and where it stands.
    left_out
        Positions of cells that are not used for anything.

    Raises
    ------
    DataError
        If a column is not there, there are no controls, or nothing but controls.
    """
    codes, names = source.obs(columns.condition)
    if columns.control not in names:
        msg = (
            f"no cell is a control: obs column '{columns.condition}' has no value '{columns.control}' "
            f"(finetune.control). There are: {listed(sorted(names), 5)}."
        )
        raise DataError(msg)
    conditions = Conditions.of(names, control=columns.control)
    controls = control_values(names, columns.control)
    if len(controls) > 1:
        _log.warning(
            f"{len(controls)} values of obs column '{columns.condition}' mean control by their names, and their cells "
            f"are one control: {listed(controls, 10)}; leave some out with data.filter if they should not be"
        )
    where, covariates = _covariates(source, columns)
    own = np.array([*(CONTROL if name in controls else conditions.name(name) for name in names), ""])[codes]
    doses = _doses(source, columns)
    own[_not_read(own, doses, left_out)] = ""
    pairs = [
        Group(covariates[code] if columns.covariate else "", str(name)) if name and code >= 0 else None
        for name, code in zip(own, where, strict=True)
    ]
    has_control = {pair.covariate for pair in pairs if pair is not None and pair.perturbation == CONTROL}
    groups = sorted({pair for pair in pairs if pair is not None and pair.perturbation != CONTROL})
    lacking = sorted({group.covariate for group in groups} - has_control)
    if lacking:
        msg = (
            f"there are no control cells of {listed(lacking, 3)} (obs column '{columns.covariate}'); give controls of "
            "each, or leave these cells out with data.filter."
        )
        raise DataError(msg)
    if len(groups) < 3:
        msg = (
            f"obs column '{columns.condition}' has {len(groups)} perturbation(s) beside the control; three are needed: "
            "to train on, to choose a model by, and to score."
        )
        raise DataError(msg)
    place = {group: number for number, group in enumerate(groups)}
    found = [-2 if pair is None else -1 if pair.perturbation == CONTROL else place[pair] for pair in pairs]
    known = tuple(sorted(has_control))
    order = {name: number for number, name in enumerate(known)}
    of_cells = np.array([-1 if pair is None else order.get(pair.covariate, -1) for pair in pairs], dtype=np.int64)
    return Screen(columns, tuple(groups), np.array(found), known, of_cells, doses, controls)


def tokens_of(groups: Sequence[Group], vocab: GeneVocab) -> tuple[list[list[int]], list[str]]:
    """Return the tokens of the genes of each perturbation, ascending, and the genes that have none."""
    genes = sorted({gene for group in groups for gene in group.targets})
    found = dict(zip(genes, vocab.map(genes).tolist(), strict=True))
    table = human_genes()
    missing = [gene for gene in genes if found[gene] < 0]
    others = [table.ensembl_of.get(gene, gene) for gene in missing]
    found.update(zip(missing, vocab.map(others).tolist(), strict=True))
    unknown = [gene for gene in genes if found[gene] < 0]
    return [sorted({found[gene] for gene in group.targets if found[gene] >= 0}) for group in groups], unknown


def without(screen: Screen, unknown: Sequence[str]) -> Screen:
    """Return the screen without the perturbations of some genes."""
    kept = [group for group in screen.groups if not set(group.targets) & set(unknown)]
    places = {group: number for number, group in enumerate(kept)}
    moved = np.array([*(places.get(group, -2) for group in screen.groups), -2, -1])  # the last two are codes -2, -1
    return replace(screen, groups=tuple(kept), codes=moved[screen.codes])


def _control_among(names: Sequence[str], condition: str) -> str | None:
    import pandas as pd

    from scmodelforge.data.perturbation.columns import find_perturbation_columns

    found = find_perturbation_columns(pd.DataFrame({"perturbation": list(names)}))
    return None if found is None else found.control


def _covariates(source: CellSource, columns: Columns) -> tuple[np.ndarray, list[str]]:
    if columns.covariate is None:
        return np.zeros(sum(source.file_sizes), dtype=np.int64), [""]
    codes, names = source.obs(columns.covariate)
    return codes, [str(name) for name in names]


def _not_read(names: np.ndarray, doses: np.ndarray | None, left_out: np.ndarray | None) -> np.ndarray:
    """Return which cells are of no condition whatever their name, shape (N,), bool."""
    found = np.zeros(len(names), dtype=bool)
    if doses is not None:
        found = np.isnan(doses) & (names != CONTROL) & (names != "")
        if found.any():
            _log.warning(f"{found.sum():,} perturbed cells have no dose (finetune.dose_column); they are left out")
    if left_out is not None:
        found[left_out] = True
    return found


def _doses(source: Any, columns: Columns) -> np.ndarray | None:
    if columns.dose is None:
        return None
    codes, names = source.obs(columns.dose)
    try:
        values = np.array([*(float(name) for name in names), np.nan])
    except ValueError:
        msg = (
            f"finetune.dose_column '{columns.dose}' has values that are no numbers ({listed(sorted(names), 3)}); name "
            "a column with numbers, or leave it out."
        )
        raise ConfigError(msg) from None
    if (values < 0).any():
        msg = f"finetune.dose_column '{columns.dose}' has negative doses; doses from 0 on are needed."
        raise ConfigError(msg)
    return values[codes]
