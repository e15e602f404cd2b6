"""Labels of cells that a model learns from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.cell_labels import CELL_LABELS, needed_labels
from scmodelforge.config.schema import ModelConfig, RunConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.data.protocols import CellSource

__all__ = ["CellLabels", "labels_of", "learned_labels", "set_label_sizes"]

_log = logging.getLogger(__name__)
#: Different numbers, some of them with decimals, that may still be names.
_MOST_NUMBERS = 20
_MEANS_MISSING = frozenset({"", "nan", "na", "n/a", "<na>", "none", "null"})


@dataclass(frozen=True)
class CellLabels:
    """An obs column as a model sees it.

    Attributes
    ----------
    column
        Name of the column.
    categories
        The labels that training cells have, in the column's order.
    codes
        Of each cell of the source the place of its label among these, shape (N,), int32, ``IGNORE_INDEX`` where it
        has none of them.
    """

    column: str
    categories: list[str]
    codes: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Return column and categories as plain values."""
        return {"column": self.column, "categories": self.categories}


def labels_of(source: CellSource, column: str, train: np.ndarray) -> CellLabels:
    """Read a column.

    Parameters
    ----------
    source
        The cells.
    column
        Name of the obs column.
    train
        Positions of the training cells.

    Raises
    ------
    DataError
        If there is no such column.
    """
    codes, categories = source.obs(column)
    present = np.unique(codes[train])
    present = present[present >= 0]
    places = np.full(len(categories) + 1, IGNORE_INDEX, dtype=np.int32)  # the last one is that of code -1
    places[present] = np.arange(len(present), dtype=np.int32)
    return CellLabels(column, [str(categories[code]) for code in present], places[codes])


def learned_labels(config: RunConfig, source: CellSource, train: np.ndarray) -> dict[str, CellLabels]:
    """Read the labels that the model of some settings learns from.

    Returns
    -------
    By the key they have in a batch.

    Raises
    ------
    DataError
        If training cells have fewer than two labels of a kind.
    """
    found = {}
    for name in needed_labels(config.model):
        setting = CELL_LABELS[name].column
        labels = labels_of(source, getattr(config.data, setting), train)
        if len(labels.categories) < 2:
            msg = (
                f"the training cells have {len(labels.categories)} label(s) in obs column '{labels.column}' "
                f"(data.{setting}), from which the model cannot learn; name a column with two or more."
            )
            raise DataError(msg)
        if name == "cell_types":
            _refuse_numbers(source, labels, setting)
            _warn_of_missing(labels, setting, train)
        found[name] = labels
    return found


def _refuse_numbers(source: Any, labels: CellLabels, setting: str) -> None:
    """Refuse a column of measured numbers, each of which would be a type of its own."""
    numbers = source.obs_numbers(labels.column) if hasattr(source, "obs_numbers") else None
    if numbers is None or len(labels.categories) <= _MOST_NUMBERS:
        return
    known = numbers[np.isfinite(numbers)]
    if (known != np.round(known)).any():
        msg = (
            f"obs column '{labels.column}' (data.{setting}) holds numbers, {len(labels.categories):,} different ones "
            "in training cells, of which each would be a type; use task 'regression' with finetune.targets to learn "
            "them, or name a column of types."
        )
        raise DataError(msg)


def _warn_of_missing(labels: CellLabels, setting: str, train: np.ndarray) -> None:
    """Warn of texts that mean that there is no label, and are learned as one."""
    for code, name in enumerate(labels.categories):
        if name.strip().lower() in _MEANS_MISSING:
            number = int((labels.codes[train] == code).sum())
            _log.warning(
                f"obs column '{labels.column}' (data.{setting}): the text '{name}' of {number:,} training cells is "
                "learned as a type like the others; if it means that there is none, make it a missing value"
            )


def set_label_sizes(model: ModelConfig, labels: dict[str, CellLabels]) -> None:
    """Write the numbers of labels into a model's settings.

    Raises
    ------
    ConfigError
        If another number is set there.
    """
    for name, own in labels.items():
        setting, found = CELL_LABELS[name].size, len(own.categories)
        given = getattr(model, setting)
        if given not in (None, found):
            msg = (
                f"model.{setting} is {given}, but the training cells have {found} labels in obs column '{own.column}'; "
                "leave it out to have it filled in."
            )
            raise ConfigError(msg)
        setattr(model, setting, found)
