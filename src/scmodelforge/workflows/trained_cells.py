"""Whether cells that a model is to be scored on are cells that it is trained on, in this file or another."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.cell_sketch import Shared, shared_cells
from scmodelforge.data.protocols import CellSource
from scmodelforge.datasets import list_datasets
from scmodelforge.workflows.prepare import PreparedData

__all__ = [
    "base_params",
    "cells_of_base",
    "is_trained_on",
    "refuse_known_cells",
    "refuse_same_cells",
    "refuse_trained_cells",
    "repeated_cells",
    "trained_cells_notes",
    "trained_params",
    "trained_share",
]

_log = logging.getLogger(__name__)
_OWN = "leave 'dataset' out of the benchmark to score the cells that the run itself holds out"


def trained_share(data: PreparedData, positions: np.ndarray | None = None) -> Shared | None:
    """Return how many of some cells, the held-out ones by default, a model is trained on; ``None`` if it is not known.

    Parameters
    ----------
    data
        Cells that a model is evaluated on: other ones, as of
        :func:`~scmodelforge.workflows.evaluation_sets.split_for_evaluation`, or those that its run held out.
    positions
        Which ones of other cells.
    """
    if data.looked_for is None:
        return data.repeated
    if data.trained_cells is None:
        return None
    asked = data.looked_for.values[data.split.validation if positions is None else positions]
    return data.trained_cells.shared(asked, has_genes=data.looked_for.has_genes)


def repeated_cells(facts: Mapping[str, Any]) -> Shared | None:
    """Return what ``run.json`` says of held-out cells that are training cells as well; older runs say nothing."""
    found = facts.get("repeated_cells")
    return None if found is None else Shared(**found)


def is_trained_on(data: PreparedData, positions: np.ndarray | None = None) -> bool | None:
    """Return whether a model is trained on some cells, as of :func:`trained_share`; ``None`` if that cannot be told."""
    shared = trained_share(data, positions)
    return None if shared is None else shared.verdict


def trained_params(data: PreparedData) -> dict[str, Any]:
    """Return what records say of their cells; nothing of those that the run held out, unless they were trained on."""
    shared = trained_share(data)
    if data.looked_for is None and (shared is None or not shared.verdict):
        return base_params(data.base_cells)
    if shared is None:
        return {"trained_on": None}
    return {"trained_on": shared.verdict, "cells_looked_for": shared.checked, "cells_found": shared.found}


def base_params(in_base: Shared | None) -> dict[str, Any]:
    """Return what records say of scored cells that a base model was trained on; nothing where it is not known."""
    return {} if in_base is None else {"base_trained_on": in_base.verdict, "base_cells_found": in_base.found}


def cells_of_base(facts: Mapping[str, Any]) -> tuple[Shared | None, Shared | None]:
    """Return what ``run.json`` says of cells that the base model was trained on: held-out ones, and further ones."""
    names = ("cells_of_base", "scored_cells_of_base")
    held_out, scored = (None if facts.get(name) is None else Shared(**facts[name]) for name in names)
    return held_out, scored


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
        If held-out cells are training cells.
    """
    trained = _by_file(own.source, own.split.train)
    rows = sum(
        len(np.intersect1d(rows, trained[sha256], assume_unique=True))
        for sha256, rows in _by_file(other.source, other.split.validation).items()
        if sha256 in trained
    )
    shared = trained_share(other)
    if rows:
        seen = f"{rows:,} of the {len(other.split.validation):,} cells to be scored are training cells"
    elif shared is not None and shared.verdict:
        seen = f"{_in_words(shared)} are training cells that lie in another file"
    else:
        for line in trained_cells_notes(other):
            _log.warning(f"'{name}': {line.removeprefix('warning: ')}")
        return
    advice = _OWN
    if name in list_datasets():
        advice = (
            f"set data.split.file to what 'scmodelforge datasets split {name} -o split.json' writes, so that the "
            f"run holds out the same ones; or {advice}"
        )
    msg = f"'{name}' is trained on and evaluated on: {seen}; {advice}."
    raise DataError(msg)


def refuse_known_cells(name: str, data: PreparedData, advice: str, positions: np.ndarray | None = None) -> None:
    """Refuse to score a model on other cells that it is trained on.

    Parameters
    ----------
    name
        What messages call the data.
    data, positions
        As of :func:`trained_share`.
    advice
        What to do.

    Raises
    ------
    DataError
        If cells to be scored are training cells.
    """
    shared = trained_share(data, positions)
    if shared is not None and shared.verdict:
        msg = f"{name}: the model was trained on {_in_words(shared)}; {advice}."
        raise DataError(msg)


def trained_cells_notes(data: PreparedData) -> list[str]:
    """Return a warning if a model is trained on the cells that were scored, or if that cannot be told."""
    shared = trained_share(data)
    if data.looked_for is None:
        if shared is None or not shared.verdict:
            return []
        return [f"warning: {_in_words(shared)} are training cells too, so these scores are not of unseen cells"]
    if shared is None:
        return ["warning: the model does not say which cells it was trained on; these may be among them"]
    if shared.verdict:
        return [
            f"warning: the model was trained on {_in_words(shared)}, so these scores are not of unseen cells; "
            "evaluate the run's folder without --data for its own held-out cells"
        ]
    if shared.verdict is None:
        return [f"warning: whether the model was trained on these cells cannot be told: {_why_unsure(shared)}"]
    return []


def refuse_same_cells(what: str, reference: PreparedData, query: PreparedData, advice: str) -> None:
    """Refuse two data sets that share cells.

    Raises
    ------
    DataError
        If they do.
    """
    if reference.looked_for is None or query.looked_for is None:
        return
    shared = shared_cells(query.looked_for.values, reference.looked_for.values)
    if shared.verdict:
        msg = f"{what}: {shared.found:,} of {shared.checked:,} cells are in both, maybe in another form; {advice}"
        raise DataError(msg)


def _in_words(shared: Shared) -> str:
    if shared.checked == shared.asked:
        return f"{shared.found:,} of the {shared.asked:,} cells to be scored"
    return f"{shared.share:.0%} of the cells to be scored ({shared.found:,} of {shared.checked:,} that were looked for)"


def _why_unsure(shared: Shared) -> str:
    if shared.found:
        return f"{shared.found:,} of the {shared.checked:,} that were looked for may be"
    if not shared.is_complete:
        return "it was made of another model, whose training cells are not known or not measured alike"
    if not shared.has_genes:
        return "they were not measured for all genes that its training cells were"
    if shared.identified < shared.asked:
        few = shared.asked - shared.identified
        return f"{few:,} of {shared.asked:,} express too few genes of its vocabulary to be told apart"
    if shared.repeated:
        return f"{shared.repeated:,} of them look like others among them"
    return f"of {shared.asked:,} only {shared.checked:,} could be looked for"


def _by_file(source: CellSource, positions: np.ndarray) -> dict[str, np.ndarray]:
    """Return which rows of each content, by its hash, are among some positions; each once, ascending."""
    found: dict[str, np.ndarray] = {}
    ends = np.cumsum(source.file_sizes)
    for entry, start, end in zip(source.fingerprint(), ends - source.file_sizes, ends, strict=True):
        low, high = np.searchsorted(positions, (start, end))
        rows = positions[low:high] - start
        found[entry["sha256"]] = np.union1d(found.get(entry["sha256"], rows), rows)
    return found
