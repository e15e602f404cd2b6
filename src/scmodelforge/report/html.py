"""The report of a run: one HTML page that needs nothing else, no network and no scripts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from scmodelforge._optional import require
from scmodelforge.report.pages import render_page
from scmodelforge.training._files import write_text
from scmodelforge.workflows.outputs import check_output
from scmodelforge.workflows.run_record import RunRecord

__all__ = ["render_report", "write_report"]


def write_report(
    root: Path, out: Path | None = None, *, force: bool = False, method: Literal["auto", "pca"] = "auto"
) -> Path:
    """Write the report of a run.

    Parameters
    ----------
    root
        The run's folder; the run may be under way, interrupted or finished.
    out
        File to write; ``None`` is ``report.html`` in the run's folder.
    force
        Replace the file if it exists.
    method
        How cells are put into a plane, as for :func:`scmodelforge.report.plots.project_2d`.

    Returns
    -------
    The file written.

    Raises
    ------
    DataError
        If the folder is not a run, or the file cannot be written.
    ImportError
        If the extra ``report`` is not installed.
    """
    for package in ("jinja2", "matplotlib"):
        require(package, extra="report", why="Writing a report")
    run = RunRecord.read(root)
    out = Path(root) / "report.html" if out is None else out
    check_output(out, force=force)
    write_text(out, render_report(run, method=method))
    return out


def render_report(run: RunRecord, *, method: Literal["auto", "pca"] = "auto", now: str | None = None) -> str:
    """Return the page of a run's report. The same run gives the same page, but for the time at its foot.

    Parameters
    ----------
    run
        The run.
    method
        As for :func:`write_report`.
    now
        The time at the foot; ``None`` is the present.
    """
    contents = {**_contents(run, method), "now": now or time.strftime("%Y-%m-%d %H:%M %Z")}
    return render_page("report.html.j2", contents)


def _contents(run: RunRecord, method: Literal["auto", "pca"]) -> dict[str, Any]:
    from scmodelforge.report.sections import cells, curves, data, overview, pictures_of_scores, scores, settings

    seed = int(run.settings.get("eval", {}).get("seed") or 0)
    tables, pictures = scores.score_tables(run), cells.cell_pictures(run, method=method, seed=seed)
    speed = curves.speed_figures(run)
    titles = [
        ("scores", "Scores", tables),
        ("cells", "Cells", pictures),
        ("training", "Training", True),
        ("data", "Data", True),
        ("speed", "Speed", speed),
        ("checkpoints", "Checkpoints", True),
        ("settings", "Settings", True),
        ("environment", "Environment", True),
        ("next", "Next", True),
    ]
    sections = [(name, title) for name, title, is_there in titles if is_there]
    return {
        "head": overview.overview(run),
        "sections": sections,
        "shown": {name for name, _ in sections},
        "evaluated": _evaluated(run),
        "tables": tables,
        "skipped": scores.skipped(run),
        "score_figures": scores.score_figures(run),
        "score_pictures": pictures_of_scores.picture_figures(run),
        "cells": pictures,
        "losses": curves.loss_figures(run),
        "others": curves.other_figures(run),
        "nothing_happened": curves.nothing_happened(run),
        "over_training": scores.training_figures(run),
        "data": data.data_summary(run),
        "speed": speed,
        "speed_facts": curves.speed_facts(run),
        "checkpoints": settings.checkpoint_rows(run),
        "changed": settings.changed_settings(run),
        "settings": settings.all_settings(run),
        "environment": settings.environment(run),
    }


def _evaluated(run: RunRecord) -> str:
    """Return which weights the scores are of."""
    step = max((record.step or 0 for record in run.latest()), default=0)
    if run.exported:
        return f"The exported model, from step {step:,}, beside baselines on the same cells."
    return f"The model as it was at step {step:,}, the last evaluation, beside baselines on the same cells."
