"""Whether cells that a model is to be scored on are cells that it is trained on, in this file or another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.cell_sketch import Shared, shared_cells
from scmodelforge.data.protocols import CellSource
from scmodelforge.datasets import list_datasets
from scmodelforge.workflows.prepare import PreparedData
from scmodelforge.workflows.usable_cells import FEW_SHARED

__all__ = [
    "is_trained_on",
    "refuse_known_cells",
    "refuse_same_cells",
    "refuse_trained_cells",
    "trained_cells_notes",
    "trained_share",
]

_OWN = "leave 'dataset' out of the benchmark to score the cells that the run itself holds out"


def trained_share(data: PreparedData, positions: np.ndarray | None = None) -> Shared | None:
    """Return how many of some cells, the held-out ones by default, a model is trained on; ``None`` if it is not known.

    Parameters
    ----------
    data
        Cells that the model is evaluated on, as of
        :func:`~scmodelforge.workflows.evaluation_sets.split_for_evaluation`.
    positions
        Which ones.
    """
    if data.trained_cells is None or data.identities is None:
        return None
    return data.trained_cells.shared(data.identities[data.split.validation if positions is None else positions])


def is_trained_on(data: PreparedData, positions: np.ndarray | None = None) -> bool | None:
    """Return whether a model is trained on some cells, as of :func:`trained_share`."""
    shared = trained_share(data, positions)
    return None if shared is None else shared.share > FEW_SHARED


def refuse_trained_cells(name: str, own: PreparedData, other: PreparedData) -> None:
    """Refuse to score a model, in the run that trains it, on cells of a data set that it is trained on.

    Cells are the same if they are the same rows of files with the same content, or alike as of
    :mod:`scmodelforge.data.cell_sketch`.

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
    rows = sum(
        len(np.intersect1d(rows, trained[sha256], assume_unique=True))
        for sha256, rows in _by_file(other.source, other.split.validation)
        if sha256 in trained
    )
    shared, number = trained_share(other), len(other.split.validation)
    if rows:
        seen = f"{rows:,} of the {number:,} cells to be scored are training cells"
    elif shared is not None and shared.share > FEW_SHARED:
        seen = f"{_in_words(shared, number)} are training cells that lie in another file"
    else:
        return
    advice = _OWN
    if name in list_datasets():
        advice = (
            f"set data.split.file to what 'scmodelforge datasets split {name} -o split.json' writes, so that the "
            f"run holds out the same ones; or {advice}"
        )
    msg = f"'{name}' is trained on and evaluated on: {seen}; {advice}."
    raise DataError(msg)


def refuse_known_cells(name: str, data: PreparedData) -> None:
    """Refuse to score a trained model on cells that it was trained on.

    Raises
    ------
    DataError
        If a held-out cell of the data is one.
    """
    shared = trained_share(data)
    if shared is not None and shared.share > FEW_SHARED:
        msg = (
            f"{name}: the model was trained on {_in_words(shared, len(data.split.validation))}; evaluate the run's "
            "folder without --data for the cells it held out, or name data that it has not seen (with "
            "--allow-trained-cells they are scored, and the results say so)."
        )
        raise DataError(msg)


def trained_cells_notes(data: PreparedData) -> list[str]:
    """Return a warning if a model was trained on the cells that were scored, or that cannot be known."""
    is_seen = is_trained_on(data)
    if is_seen is None:
        return ["warning: the model does not say which cells it was trained on; these may be among them"]
    if is_seen:
        return [
            "warning: the model was trained on cells that were scored, so these scores are not of unseen cells; "
            "evaluate the run's folder without --data for its own held-out cells"
        ]
    return []


def refuse_same_cells(what: str, reference: PreparedData, query: PreparedData, advice: str) -> None:
    """Refuse two data sets that share cells.

    Raises
    ------
    DataError
        If they do.
    """
    if reference.identities is None or query.identities is None:
        return
    shared = shared_cells(query.identities, reference.identities)
    if shared.share > FEW_SHARED:
        msg = f"{what}: {shared.found:,} of {shared.checked:,} cells are in both, maybe in another form; {advice}"
        raise DataError(msg)


def _in_words(shared: Shared, number: int) -> str:
    if shared.checked == number:
        return f"{shared.found:,} of the {number:,} cells to be scored"
    return f"{shared.share:.0%} of the cells to be scored ({shared.found:,} of {shared.checked:,} that were looked for)"


def _by_file(source: CellSource, positions: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the content hash of each file of a source, and which of its rows are among some positions, ascending."""
    ends = np.cumsum(source.file_sizes)
    for entry, start, end in zip(source.fingerprint(), ends - source.file_sizes, ends, strict=True):
        low, high = np.searchsorted(positions, (start, end))
        yield entry["sha256"], positions[low:high] - start
