"""What a task of fine-tuning scores its model on, after a run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from scmodelforge.config.best_metric import OWN_CELLS
from scmodelforge.config.guard_sections import known_batch_size
from scmodelforge.config.schema import RunConfig
from scmodelforge.eval.base import Record
from scmodelforge.hub.bundle import Bundle
from scmodelforge.workflows.prepare import PreparedData
from scmodelforge.workflows.read_cells import embedded_cells, read_counts
from scmodelforge.workflows.scored_cells import hash_of
from scmodelforge.workflows.team import Team

__all__ = ["FinishedRun"]


@dataclass
class FinishedRun:
    """A run whose model is exported: the cells and the model as a task scores them.

    Attributes
    ----------
    bundle, data, config
        The model, the run's cells and its settings.
    device, autocast
        Where the model computes, and how.
    """

    bundle: Bundle
    data: PreparedData
    config: RunConfig
    device: torch.device
    autocast: Callable[[], Any] = nullcontext

    @property
    def seed(self) -> int:
        """Seed of whatever is fitted."""
        return self.config.eval.seed

    def predicted(self, predictor: Any, positions: np.ndarray) -> np.ndarray:
        """Return what a predictor's ``encode`` gives for some cells, shape (n, X)."""
        return embedded_cells(
            predictor,
            self.data,
            self.config.data,
            positions,
            team=Team.alone(self.device),
            batch_size=known_batch_size(self.config.training),
            seed=self.seed,
            device=self.device,
            autocast=self.autocast,
        )

    def counts(self, positions: np.ndarray) -> Any:
        """Return the counts of some cells over the vocabulary's genes, CSR (n, number of genes)."""
        return read_counts(self.data, self.config.data, positions)

    def record(self, benchmark: str, representation: str, metric: str, value: float | None, **facts: Any) -> Record:
        """Return a record that says which cells and which split it is of."""
        split = self.data.split
        made = Record(benchmark, OWN_CELLS, representation, metric, value, model_id=self.bundle.model_id, **facts)
        made.dataset_hash = hash_of([entry["sha256"] for entry in self.data.source.fingerprint()])
        made.split_hash, made.split_seed = split.to_dict()["hash"], split.seed
        return made
