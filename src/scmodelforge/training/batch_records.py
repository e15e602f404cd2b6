"""The cells of a batch that went wrong, in a file from which the batch can be made again."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scmodelforge._errors import DataError
from scmodelforge.training._files import write_text
from scmodelforge.training._targets import all_gather

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from scmodelforge.training.run import Run

__all__ = ["BatchRecords", "gather_cells"]

_log = logging.getLogger(__name__)

#: Files of each kind that are written at most, unless asked otherwise.
_MOST = 20


class BatchRecords:
    """Files ``<kind>_step_<n>.json`` in a folder.

    Parameters
    ----------
    folder
        Where they lie.
    describe
        Returns facts about cells, such as their names, by their positions in the source, in the same order. Called
        on the first process.
    """

    def __init__(self, folder: Path, describe: Callable[[list[int]], list[dict[str, Any]]] | None = None) -> None:
        self.folder = Path(folder)
        self._describe = describe

    def write(
        self,
        run: Run,
        kind: str,
        micro_batches: Sequence[dict[str, Any]],
        metrics: dict[str, float],
        *,
        at_most: float = _MOST,
    ) -> Path | None:
        """Write the cells of a step's batch, all processes' together. All processes must call this.

        Parameters
        ----------
        run
            The run, whose loader still stands at this batch.
        kind
            What is wrong with it; the file's name begins with it.
        micro_batches
            Those of this process.
        metrics
            What the step gave.
        at_most
            Files of this kind there may be.

        Returns
        -------
        The file, or ``None`` on other processes than the first, and if it was not written: there are many already,
        or the disk refused.
        """
        places, positions = gather_cells(run.fabric, micro_batches)
        step = run.progress.step + 1
        path = self.folder / f"{kind}_step_{step}.json"
        num_others = sum(other != path for other in self.folder.glob(f"{kind}_step_*.json"))
        if not run.fabric.is_global_zero or num_others >= at_most:
            return None
        facts = self._facts(positions)
        record = {
            "format_version": 1,
            "step": step,
            "seed": run.config.seed,
            "loader": run.train_loader.state_dict(),
            "world_size": run.fabric.world_size,
            "num_micro_batches": len(micro_batches),
            "metrics": {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()},
            "cells": [
                {"process": process, "micro_batch": number, "position": position, **fact}
                for (process, number), position, fact in zip(places, positions, facts, strict=True)
            ],
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(record, indent=1) + "\n")
        except OSError as problem:
            _log.warning(f"{path} cannot be written ({problem}); the cells are not kept")
            return None
        return path

    def _facts(self, positions: list[int]) -> list[dict[str, Any]]:
        nothing: list[dict[str, Any]] = [{} for _ in positions]
        try:
            return nothing if self._describe is None else self._describe(positions)
        except (OSError, DataError) as problem:
            _log.warning(f"the names of a batch's cells cannot be read ({problem}); their positions are kept")
            return nothing


def gather_cells(fabric: Fabric, micro_batches: Sequence[dict[str, Any]]) -> tuple[list[tuple[int, int]], list[int]]:
    """Return the process and micro-batch of each cell of a step, and its position in the source.

    All processes must call this, each with its own micro-batches, equally many.
    """
    own = [np.asarray(batch.get("cell_index", ()), dtype=np.int64) for batch in micro_batches]
    sizes = all_gather(fabric, torch.tensor([len(each) for each in own], device=fabric.device))
    mine = torch.from_numpy(np.concatenate(own)).to(fabric.device)
    padded = torch.full((int(sizes.sum(1).max()),), -1, device=fabric.device)
    padded[: len(mine)] = mine
    cells = all_gather(fabric, padded)
    places, positions = [], []
    for process, (counts, row) in enumerate(zip(sizes.tolist(), cells.tolist(), strict=True)):
        places += [(process, number) for number, count in enumerate(counts) for _ in range(count)]
        positions += row[: sum(counts)]
    return places, positions
