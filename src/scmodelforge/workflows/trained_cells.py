"""Whether cells that a model is to be scored on are cells that it is trained on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.protocols import CellSource
from scmodelforge.datasets import list_datasets
from scmodelforge.workflows.prepare import PreparedData

__all__ = ["refuse_trained_cells"]


def refuse_trained_cells(name: str, own: PreparedData, other: PreparedData) -> None:
    """Refuse to score a model on cells of a data set that it is trained on.

    Cells are the same if they are the same rows of files with the same content.

    Parameters
    ----------
    name
        Name of the data set that is scored.
    own
        What the model is trained on.
    other
        The data set, whose held-out cells are scored.

    Raises
    ------
    DataError
        If a held-out cell is a training cell.
    """
    trained = dict(_by_file(own.source, own.split.train))
    shared = sum(
        len(np.intersect1d(rows, trained[sha256], assume_unique=True))
        for sha256, rows in _by_file(other.source, other.split.validation)
        if sha256 in trained
    )
    if shared:
        advice = "leave 'dataset' out of the benchmark to score the cells that the run itself holds out"
        if name in list_datasets():
            advice = (
                f"set data.split.file to what 'scmodelforge datasets split {name} -o split.json' writes, so that the "
                f"run holds out the same ones; or {advice}"
            )
        msg = (
            f"'{name}' is trained on and evaluated on: {shared:,} of the {len(other.split.validation):,} cells to be "
            f"scored are training cells; {advice}."
        )
        raise DataError(msg)


def _by_file(source: CellSource, positions: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the content hash of each file of a source, and which of its rows are among some positions, ascending."""
    ends = np.cumsum(source.file_sizes)
    for entry, start, end in zip(source.fingerprint(), ends - source.file_sizes, ends, strict=True):
        low, high = np.searchsorted(positions, (start, end))
        yield entry["sha256"], positions[low:high] - start
