"""Batches of the longest cells there can be, to find out what a step needs of memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from scmodelforge.config.schema import RunConfig
from scmodelforge.data.types import TokenBlock
from scmodelforge.hub.bundle import build_model
from scmodelforge.training import _rng
from scmodelforge.training.memory import StepMemory, Trial, measure_memory
from scmodelforge.training.objective import Objective
from scmodelforge.training.optim import build_optimizer
from scmodelforge.workflows.prepare import PreparedData, sequential_loader

__all__ = ["longest_cell", "measure_run", "run_trial"]

#: Training cells among which the longest is looked for.
_SAMPLE = 256


def run_trial(config: RunConfig, data: PreparedData, fabric: Any, collate: Callable[[TokenBlock], Any]) -> Trial:
    """Return a model of the settings to be tried out on the longest cells; no weight of the run is touched.

    Parameters
    ----------
    config
        Settings of the run.
    data
        Its cells.
    fabric
        Where to train.
    collate
        The objective, which makes batches.
    """
    cell = longest_cell(config, data)
    model = Objective(build_model(config.model, data.tokenizer)).to(fabric.device)
    model.train()

    def make_batch(num_cells: int) -> dict[str, Any]:
        cells = cell.select(np.zeros(num_cells, dtype=np.int64))
        # Each with draws of its own: by chance one may have nothing hidden.
        batch: dict[str, Any] = collate(replace(cells, keys=np.arange(num_cells, dtype=np.uint64)))
        return batch

    return Trial(
        objective=model,
        optimizer=build_optimizer(model, config.training.optimizer),
        make_batch=make_batch,
        device=fabric.device,
        autocast=fabric.autocast,
        vocab_size=config.model.vocab_size,
    )


def measure_run(config: RunConfig, data: PreparedData, fabric: Any, collate: Callable[[TokenBlock], Any]) -> StepMemory:
    """Measure what a step of a run needs; the parameters are those of :func:`run_trial`."""
    with _rng.preserved(fabric.device):
        return measure_memory(
            run_trial(config, data, fabric, collate),
            num_processes=fabric.world_size,
            keeps_averages=config.training.ema is not None,
        )


def longest_cell(config: RunConfig, data: PreparedData) -> TokenBlock:
    """Return one cell as long as a cell can be: ``tokenizer.max_genes`` tokens, or as many as the vocabulary has.

    It is the longest of some training cells. What it lacks of that length is filled up with genes that it does not
    have, at the value of its last one.
    """
    positions = data.split.train[np.linspace(0, len(data.split.train) - 1, _SAMPLE).astype(np.int64)]
    loader = sequential_loader(
        data,
        np.unique(positions),
        collate=lambda tokens: tokens,
        config=config.data.model_copy(update={"num_workers": 0}),
        batch_size=64,
        seed=config.training.seed,
    )
    found: list[TokenBlock] = []
    for (block,) in loader.one_pass(0):
        found.append(block.select(np.array([int(np.argmax(block.lengths))])))
    cell = max(found, key=lambda each: int(each.lengths[0]))
    genes = np.setdiff1d(np.arange(len(data.vocab)), [*data.vocab.special_ids, *cell.ids])
    missing = max(0, config.tokenizer.max_genes - int(cell.lengths[0]))
    return _filled_up(cell, genes[:missing].astype(cell.ids.dtype)) if missing else cell


def _filled_up(cell: TokenBlock, genes: np.ndarray) -> TokenBlock:
    def more(array: np.ndarray) -> np.ndarray:
        return np.concatenate([array, np.repeat(array[-1:], len(genes))])

    return replace(
        cell,
        ids=np.concatenate([cell.ids, genes]),
        values=more(cell.values),
        bin_ids=None if cell.bin_ids is None else more(cell.bin_ids),
        offsets=np.array([0, len(cell.ids) + len(genes)], dtype=np.int64),
    )
