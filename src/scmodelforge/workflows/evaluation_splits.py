"""The splits of the cells that a model is scored on, in files beside the results."""

from __future__ import annotations

from pathlib import Path

from scmodelforge.config.best_metric import OWN_CELLS
from scmodelforge.data.split_files import write_split
from scmodelforge.workflows.evaluator import Evaluator

__all__ = ["write_splits"]


def write_splits(folder: Path, evaluator: Evaluator, *, with_own: bool = False) -> None:
    """Write the split of each data set as ``NAME.json``; that of a run's own cells is in ``splits.json`` already.

    The ``split_hash`` in a file is that of the records.

    Parameters
    ----------
    folder
        Where to, made if there is anything to write.
    evaluator
        What was evaluated.
    with_own
        Also write that of the cells that are the run's own, or stand for them.
    """
    chosen = {name: data for name, data in evaluator.data().items() if with_own or name != OWN_CELLS}
    if chosen:
        folder.mkdir(parents=True, exist_ok=True)
    for name, data in chosen.items():
        write_split(folder / f"{name}.json", data.split, data.source, expression=None)
