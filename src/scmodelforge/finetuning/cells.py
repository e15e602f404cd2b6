"""What a task gets to see of a run's cells, before its first step and after its last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from scmodelforge.data.protocols import CellSource
from scmodelforge.data.splits import CellSplit
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.eval.base import Record
from scmodelforge.finetuning.predictions import Predictor
from scmodelforge.hub.bundle import Bundle

__all__ = ["TaskCells", "TrainedCells"]


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
