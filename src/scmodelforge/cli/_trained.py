"""What a finished run leaves on the terminal: tables, where things lie, the next command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scmodelforge import _console
from scmodelforge._errors import DataError

if TYPE_CHECKING:
    from scmodelforge.config.given import GivenSettings
    from scmodelforge.workflows.training_run import TrainResult

__all__ = ["show_dry_run", "show_trained"]


def show_trained(result: TrainResult | None) -> None:
    """Show the scores of a run, draw its cells, write its report and say where all lies; nothing on other devices."""
    if result is None:
        return
    if result.table.tables:
        from scmodelforge.eval.tables import about_intervals

        title = f"Held-out cells ({about_intervals(result.records)})"
        _console.tables(result.table.tables, title=title, legend=result.table.legend)
    for line in [*result.closing_lines()[:-1], *_draw(result), *_report(result), result.closing_lines()[-1]]:
        _console.say(line)


def show_dry_run(
    settings: Path | GivenSettings, overrides: Sequence[str], *, force: bool, as_json: bool = False
) -> None:
    """Take the first steps of a run and show what it will need; nothing on other devices."""
    from scmodelforge.workflows.dry_run import dry_run

    found = dry_run(settings, overrides, force=force)
    if found is None:
        return
    if as_json:
        _console.json_line(found.to_dict())
    else:
        sys.stdout.write("\n".join(found.lines()) + "\n")


def _draw(result: TrainResult) -> list[str]:
    """Draw the held-out cells, and return what to say about it."""
    from scmodelforge.report.plots import cells_picture

    if result.views is None:
        return []
    try:
        cells_picture(result.views.embeddings, result.views.labels, result.folder.picture, title=result.views.title)
    except ImportError as missing:
        return [f"picture: none. {missing}"]
    return [f"picture: {result.folder.picture}"]


def _report(result: TrainResult) -> list[str]:
    """Write the report, with cells by PCA since UMAP takes long, and return what to say about it."""
    from scmodelforge.report.html import write_report

    root = shlex.quote(str(result.folder.root))
    try:
        path = write_report(result.folder.root, result.folder.report, force=True, method="pca")
    except (ImportError, DataError) as problem:
        return [f"report:  none. {problem}"]
    return [f"report:  {path} (with UMAP in place of PCA: scmodelforge report {root} --force)"]
