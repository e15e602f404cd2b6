"""Embeddings of cells by a model that is not trained: computed once, and put into each batch in place of its passes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scmodelforge.config.guard_sections import known_batch_size
from scmodelforge.config.schema import RunConfig
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.eval.embed import steady_batch
from scmodelforge.training._fsdp import build_for, shard_model
from scmodelforge.training._sharded import settle
from scmodelforge.training.run import Run
from scmodelforge.workflows.prepare import PreparedData, sequential_loader
from scmodelforge.workflows.team import Team

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["FrozenCells", "team_of"]

_log = logging.getLogger(__name__)


def team_of(fabric: Fabric) -> Team:
    """Return the processes of a run as those that embed cells together."""
    return Team.of(fabric, place=lambda build: shard_model(fabric, build_for(fabric, build)))


class FrozenCells:
    """Makes an objective's batches bring ``cell_embeddings``, and is the callback that computes these before all steps.

    They are kept in memory, 4 bytes a number, for the training and the held-out cells. Their numbers do not depend on
    the batch that a cell was embedded in, so a resumed run has the same.

    Parameters
    ----------
    config
        Settings of the run.
    data
        Its cells.
    objective
        Makes the batches. Until :meth:`on_fit_start` they are as they were, and the model is run.
    """

    def __init__(self, config: RunConfig, data: PreparedData, objective: Any) -> None:
        self._objective, self._config, self._data = objective, config, data
        self._positions = np.sort(np.concatenate([data.split.train, data.split.validation]))
        self._rows: np.ndarray | None = None

    def __call__(self, tokens: TokenBlock) -> Batch:
        """Return the objective's batch of some cells, with their embeddings of shape (B, H)."""
        batch: Batch = self._objective(tokens)
        if self._rows is not None:
            rows = self._rows[np.searchsorted(self._positions, tokens.cell_index)]
            batch["cell_embeddings"] = torch.from_numpy(rows)
        return batch

    def on_fit_start(self, run: Run) -> None:
        """Embed the cells, by all processes together."""
        fabric, batch_size = run.fabric, known_batch_size(self._config.training)
        _log.info(f"embedding {len(self._positions):,} cells once: the base model is frozen")
        self._rows = team_of(fabric).embed(
            run.model,
            partial(self._batches, batch_size=batch_size, device=fabric.device),
            positions=self._positions,
            batch_size=batch_size,
            device=fabric.device,
            autocast=fabric.autocast,
        )
        settle(run.model)
        scale = getattr(run.model.head, "scale", None)
        if scale is not None:  # of training cells alone: held-out ones are scored as those of other files will be
            scale.fit(self._rows[np.searchsorted(self._positions, np.sort(self._data.split.train))])

    @contextmanager
    def _batches(self, positions: np.ndarray, *, batch_size: int, device: torch.device) -> Iterator[Iterable[Batch]]:
        collate = partial(steady_batch, pad_id=self._data.vocab.pad_id, device=device)
        options: dict[str, Any] = {"config": self._config.data, "batch_size": batch_size, "seed": 0}
        with sequential_loader(self._data, positions, collate=collate, **options) as loader:
            yield (batch for group in loader.one_pass() for batch in group)
