"""Embeddings of cells before the first step of a run: what a head is scaled by, or what batches bring instead."""

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

__all__ = ["FirstScale", "FrozenCells", "team_of"]

_log = logging.getLogger(__name__)
_MOST_SCALED = 10_000  # cells; mean and standard deviation of a column are then known to a hundredth


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
        _log.info(f"embedding {len(self._positions):,} cells once: the base model is frozen")
        self._rows = _embedded(run, self._config, self._data, self._positions)
        if _scale_of(run) is not None:  # by training cells alone: held-out ones are scored as those of other files are
            _scale_of(run).fit(self._rows[np.searchsorted(self._positions, np.sort(self._data.split.train))])


class FirstScale:
    """The callback that fits the scale of a head to the training cells, as adapters find them before the first step.

    Parameters
    ----------
    config
        Settings of the run.
    data
        Its cells.
    """

    def __init__(self, config: RunConfig, data: PreparedData) -> None:
        self._config, self._data = config, data

    def on_fit_start(self, run: Run) -> None:
        """Embed training cells, at most 10,000 of them evenly; a resumed run has the scale in its weights."""
        if run.progress.step or _scale_of(run) is None:
            return
        positions = np.sort(self._data.split.train)
        positions = positions[:: -(-len(positions) // _MOST_SCALED)]
        _log.info(f"embedding {len(positions):,} cells by the base model: its head reads them standardised")
        _scale_of(run).fit(_embedded(run, self._config, self._data, positions))


def _scale_of(run: Run) -> Any:
    return getattr(run.model.head, "scale", None)


def _embedded(run: Run, config: RunConfig, data: PreparedData, positions: np.ndarray) -> np.ndarray:
    """Return the embeddings of cells, ascending positions, by all processes together; shape (N, H)."""
    fabric, batch_size = run.fabric, known_batch_size(config.training)
    rows = team_of(fabric).embed(
        run.model,
        partial(_batches, config=config, data=data, batch_size=batch_size, device=fabric.device),
        positions=positions,
        batch_size=batch_size,
        device=fabric.device,
        autocast=fabric.autocast,
    )
    settle(run.model)
    return rows


@contextmanager
def _batches(
    positions: np.ndarray, *, config: RunConfig, data: PreparedData, batch_size: int, device: torch.device
) -> Iterator[Iterable[Batch]]:
    collate = partial(steady_batch, pad_id=data.vocab.pad_id, device=device)
    options: dict[str, Any] = {"config": config.data, "batch_size": batch_size, "seed": 0}
    with sequential_loader(data, positions, collate=collate, **options) as loader:
        yield (batch for group in loader.one_pass() for batch in group)
