"""What a task gets to see of a run's cells, before its first step and after its last."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from scmodelforge.data.protocols import CellSource
from scmodelforge.data.splits import CellSplit
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.eval.base import Record
from scmodelforge.eval.groups import FEWEST_GROUPS
from scmodelforge.finetuning.predictions import Predictor
from scmodelforge.hub.bundle import Bundle

__all__ = ["TaskCells", "TrainedCells", "held_out_groups"]

_log = logging.getLogger(__name__)
#: Held-out groups below which an interval over them is told to be rough.
_FEW_GROUPS = 6


class TaskCells(Protocol):
    """Cells that a task learns from, after every check: what a run prepared.

    Attributes
    ----------
    source, split, vocab
        The cells, which of them are trained on and held out, and the genes.
    labels
        By the key that they have in a batch, ``column``, ``categories`` and ``codes`` of labels of cells.
    """

    source: CellSource
    split: CellSplit
    vocab: GeneVocab

    @property
    def labels(self) -> Mapping[str, Any]:
        """Labels of cells, by their key."""
        ...


class TrainedCells(Protocol):
    """What a task scores its model on after a run.

    Attributes
    ----------
    bundle
        The model that the run exports.
    data
        The run's cells.
    seed
        Seed of whatever is fitted.
    """

    bundle: Bundle

    @property
    def data(self) -> TaskCells:
        """The run's cells."""
        ...

    @property
    def seed(self) -> int:
        """Seed of whatever is fitted."""
        ...

    def predicted(self, predictor: Predictor, positions: np.ndarray) -> np.ndarray:
        """Return what a predictor's ``encode`` gives for some cells, shape (n, X)."""
        ...

    def counts(self, positions: np.ndarray) -> Any:
        """Return the counts of some cells over the vocabulary's genes, CSR (n, number of genes)."""
        ...

    def record(self, benchmark: str, representation: str, metric: str, value: float | None, **facts: Any) -> Record:
        """Return a record that says which cells and which split it is of."""
        ...


def held_out_groups(data: TaskCells) -> np.ndarray | None:
    """Return the group of each held-out cell, shape (n,), str, empty where it has none; warn if there are few.

    ``None`` where single cells are held out.
    """
    column = data.split.by
    if column not in data.source.obs_columns:
        return None
    codes, names = data.source.obs(column)
    held_out = codes[data.split.validation]
    num_groups = len(np.unique(held_out[held_out >= 0]))
    if num_groups < _FEW_GROUPS:
        has_none = num_groups < FEWEST_GROUPS
        what = "there is no interval over them, and that over cells" if has_none else "an interval over so few"
        _log.warning(
            f"the held-out cells are of {num_groups} groups of obs column '{column}': {what} does not tell how well "
            "others would be predicted"
        )
    return np.array([*map(str, names), ""])[held_out]
