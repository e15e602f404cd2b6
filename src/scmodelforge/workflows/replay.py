"""A batch that went wrong, made again from the file that a run wrote of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.protocols import CellSource
from scmodelforge.training._loaders import make_loader
from scmodelforge.workflows.base_model import load_task
from scmodelforge.workflows.objective import chosen_objective
from scmodelforge.workflows.prepare import PreparedData, prepare_data
from scmodelforge.workflows.runfolder import RunFolder

__all__ = ["cell_facts", "replay_batch"]


def cell_facts(source: CellSource, positions: list[int]) -> list[dict[str, Any]]:
    """Return the file and the name of cells by their positions in a source, in the same order."""
    ends = np.cumsum(source.file_sizes)
    wanted, names = set(positions), dict[int, str]()
    for position, name in enumerate(source.obs_names()):
        if position in wanted:
            names[position] = name
        if len(names) == len(wanted):
            break
    files = [source.panels[int(np.searchsorted(ends, each, side="right"))].name for each in positions]
    return [{"file": file, "obs_name": names[each]} for file, each in zip(files, positions, strict=True)]


def replay_batch(record: str | Path) -> list[list[dict[str, Any]]]:
    """Make the batch of a file ``bad_batch_step_<n>.json`` or ``loss_spike_step_<n>.json`` again, number for number.

    Parameters
    ----------
    record
        The file, in its run's folder.

    Returns
    -------
    For each process of the run its micro-batches, with everything hidden that was hidden from the model.

    Raises
    ------
    DataError
        If the file cannot be read, or the run's data no longer give that batch.
    """
    path = Path(record)
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        place, world_size = facts["loader"], facts["world_size"]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        msg = f"{path} is not the record of a batch ({problem}); give a file that scmodelforge train wrote."
        raise DataError(msg) from problem
    _, config, _, _ = RunFolder.read(path.parent)
    data = prepare_data(config, load_task(config))
    collate = chosen_objective(config, data)[1]
    source, preprocess = data.ready()
    cells = place["global_batch_size"] // (world_size * facts["num_micro_batches"])
    found = []
    for rank in range(world_size):
        with make_loader(
            source,
            data.tokenizer,
            preprocess,
            data.split.train,
            config.data.model_copy(update={"num_workers": 0}),
            shuffle=True,
            batch_size=cells,
            seed=facts["seed"],
            collate=collate,
            rank=rank,
            world_size=world_size,
            num_micro_batches=facts["num_micro_batches"],
        ) as loader:
            loader.load_state_dict(place)
            found.append(next(iter(loader)))
    _check_same(path, facts, found, data)
    return found


def _check_same(path: Path, facts: dict[str, Any], found: list[list[dict[str, Any]]], data: PreparedData) -> None:
    data.source.close()
    positions = [int(p) for process in found for batch in process for p in batch["cell_index"]]
    if positions != [cell["position"] for cell in facts["cells"]]:
        msg = f"{path}: the run's data no longer give this batch; restore the files it was trained on."
        raise DataError(msg)
