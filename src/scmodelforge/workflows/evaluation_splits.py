"""The splits of the cells that a model is scored on, in files beside the results."""

from __future__ import annotations

from pathlib import Path

from scmodelforge.data.split_files import write_split
from scmodelforge.workflows.evaluator import Evaluator

__all__ = ["write_splits"]


def write_splits(folder: Path, evaluator: Evaluator) -> None:
    """Write the split of each data set that is not the run's own as ``NAME.json``; its own is in ``splits.json``.

    The ``split_hash`` in a file is that of the records.
    """
    others = {name: data for name, data in evaluator.data().items() if name != "heldout"}
    if others:
        folder.mkdir(exist_ok=True)
    for name, data in others.items():
        write_split(folder / f"{name}.json", data.split, data.source, expression=None)
