"""``scmodelforge report``: one page that tells of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder; the run may be under way.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; default RUN/report.html.")] = None,
    pca: Annotated[
        bool, typer.Option("--pca", help="Draw cells by PCA, which takes seconds, instead of UMAP.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a report of a run: one HTML page with curves, scores beside baselines, cells, data and settings.

    Example: scmodelforge report runs/quickstart --out quickstart.html
    """
    from scmodelforge.report.html import write_report

    path = write_report(run, out, force=force, method="pca" if pca else "auto")
    _console.say(f"report: {path}")
