"""The pictures of an evaluation as files: cells by label and by batch, and its scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge._optional import require
from scmodelforge.eval.base import Record
from scmodelforge.eval.harness import stratified_subsample
from scmodelforge.report.plots import cells_picture
from scmodelforge.report.score_pictures import score_pictures
from scmodelforge.report.sections.figure import name_of_representation
from scmodelforge.workflows.evaluate import EvaluationResult
from scmodelforge.workflows.views import SeenCells

__all__ = ["check_plots", "write_plots"]

_MOST_CELLS = 5000
_DRAWN = ("pca", "scvi", "untrained")


def check_plots(folder: Path, *, force: bool) -> None:
    """Make sure that pictures can be written to a folder, before anything is evaluated.

    Raises
    ------
    DataError
        If it is a file, has pictures already and ``force`` is not set, or cannot be made.
    ImportError
        If matplotlib is not installed.
    """
    require("matplotlib", extra="report", why="Drawing pictures")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        msg = f"{folder} cannot be made ({problem.strerror}); name another folder with --plots."
        raise DataError(msg) from problem
    there = sorted(path.name for path in folder.glob("*.png"))
    if there and not force:
        msg = f"{folder} has pictures already ({there[0]}); name another folder, or write over them with --force."
        raise DataError(msg)


def write_plots(folder: Path, result: EvaluationResult, *, seed: int) -> list[Path]:
    """Draw what was evaluated; of several models each in files that begin with its name.

    Returns
    -------
    The files written.
    """
    by_run: dict[str, list[Record]] = {}
    for run, record in zip(result.runs, result.records, strict=True):
        by_run.setdefault(run, []).append(record)
    written = []
    for run, records in by_run.items():
        begin = "" if len(by_run) == 1 else "".join(c if c.isalnum() else "_" for c in run) + "_"
        for picture in score_pictures(records):
            path = folder / f"{begin}{picture.name}.png"
            path.write_bytes(picture.png)
            written.append(path)
        if run in result.seen:
            written += _draw_cells(folder, begin, result.seen[run], seed=seed)
    return written


def _draw_cells(folder: Path, begin: str, seen: SeenCells, *, seed: int) -> list[Path]:
    codes = np.zeros(len(seen.model), dtype=np.int64) if seen.labels is None else seen.labels
    rows = stratified_subsample(codes, _MOST_CELLS, seed)
    if len(rows) < 2:
        return []
    views = {"model": seen.model[rows]}
    views |= {name_of_representation(name): seen.baselines[name][rows] for name in _DRAWN if name in seen.baselines}
    written = []
    for kind, key, column in (("label", seen.label_key, seen.labels), ("batch", seen.batch_key, seen.batches)):
        if column is not None:
            path = folder / f"{begin}cells_by_{kind}.png"
            which = f"{len(rows):,} of {len(seen.model):,} " if len(rows) < len(seen.model) else ""
            cells_picture(views, column[rows], path, title=f"{which}{seen.dataset} cells, by {key}", seed=seed)
            written.append(path)
    return written
