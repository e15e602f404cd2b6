"""The report of a connectome run: one HTML page that needs nothing else, and its pictures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._optional import require
from scmodelforge.connectome.geometry import distances
from scmodelforge.report import connectome_plots as plots
from scmodelforge.report import connectome_scores as scores
from scmodelforge.report.charts import Score, dot_plot
from scmodelforge.report.connectome_run import ConnectomeRun, read_connectome_run
from scmodelforge.report.connectome_verdict import cautions, verdict, what_was_done
from scmodelforge.report.pages import render_page
from scmodelforge.report.picture_text import shortened
from scmodelforge.report.score_pictures import ScorePicture
from scmodelforge.report.sections.figure import Figure
from scmodelforge.report.sections.pictures_of_scores import picture_figure
from scmodelforge.report.sections.settings import as_yaml
from scmodelforge.report.text import number
from scmodelforge.workflows.connectome.standing import METRIC
from scmodelforge.workflows.outputs import check_output, whole_file

__all__ = ["draw_connectome_plots", "write_connectome_report"]

_MOST_GENE_PAIRS = 20
_MOST_PAIRS = 10


def write_connectome_report(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a connectome run; the same folder gives the same page, byte for byte.

    Parameters
    ----------
    folder
        With ``predictions.npz``, ``scores.json``, ``comparison.json``, ``config.yaml``, ``record.json`` and, where
        there is attention, ``gene_pairs.csv``.

    Returns
    -------
    The file written; one that was there is replaced.

    Raises
    ------
    DataError
        If a file is missing or broken, or the page cannot be written.
    ImportError
        If the extra ``report`` is not installed.
    """
    for package in ("jinja2", "matplotlib"):
        require(package, extra="report", why="Writing a report")
    run = read_connectome_run(folder)
    page = render_page("connectome.html.j2", _contents(run))
    return _write(run.root / "report.html", page.encode("utf-8", errors="replace"))


def draw_connectome_plots(folder: Path) -> list[Path]:
    """Draw the pictures of the report as PNG files into the folder of a connectome run.

    Returns
    -------
    The files written: ``matrices.png``, ``predictors_inner.png`` and ``predictors_cross.png``; ``scatter.png`` and
    ``error_over_distance.png`` where there are predictions, the latter with coordinates only; ``gene_pairs.png`` where
    there is attention.

    Raises
    ------
    DataError
        If a file is missing or broken, or a picture cannot be written.
    ImportError
        If matplotlib is not installed.
    """
    require("matplotlib", extra="report", why="Drawing pictures")
    run = read_connectome_run(folder)
    drawn = [
        plots.matrix_picture(run),
        plots.predictor_picture(run, "inner"),
        plots.predictor_picture(run, "cross"),
        *_of_pairs(run),
        plots.gene_picture(run),
    ]
    return [_write(run.root / f"{each.name}.png", each.png) for each in drawn if each is not None]


def _contents(run: ConnectomeRun) -> dict[str, Any]:
    of_scores = [plots.predictor_picture(run, where) for where in ("inner", "cross")]
    gene_picture = plots.gene_picture(run)
    names = dict.fromkeys(each.name for each in run.comparisons)
    sections = [
        ("scores", "Scores", True),
        ("differences", "Differences", True),
        ("matrices", "Matrices", True),
        ("pairs", "Pairs", True),
        ("folds", "Folds", True),
        ("genes", "Genes", run.gene_pairs is not None),
        ("settings", "Settings", True),
    ]
    return {
        "head": {"name": run.root.resolve().name},
        "sentences": what_was_done(run),
        "verdict": verdict(run),
        "cautions": cautions(run),
        "tiles": _tiles(run),
        "sections": [(name, title) for name, title, is_there in sections if is_there],
        "metric": scores.metric_name(METRIC),
        "inner": scores.score_table(run, "inner"),
        "cross": scores.score_table(run, "cross"),
        "predictors": [picture_figure(each) for each in of_scores if each is not None],
        "differences": scores.difference_rows(run),
        "difference_charts": [chart for name in names if (chart := _difference_chart(run, name)) is not None],
        "matrices": [picture_figure(plots.matrix_picture(run, [name])) for name in ("true", "predicted")],
        "pairs": [picture_figure(each) for each in _of_pairs(run)],
        "has_coords": run.coords is not None,
        "furthest_off": _furthest_off(run),
        "folds": scores.fold_table(run),
        "gene_pairs": [
            [pair.gene_i, pair.gene_j, number(pair.attention)] for pair in (run.gene_pairs or [])[:_MOST_GENE_PAIRS]
        ],
        "genes": None if gene_picture is None else picture_figure(gene_picture),
        "config": as_yaml(run.config),
        "record": as_yaml(run.record),
    }


def _tiles(run: ConnectomeRun) -> list[tuple[str, str]]:
    tiles = [
        ("regions", f"{len(run.regions):,}"),
        ("pairs with a prediction", f"{len(plots.predicted_pairs(run)):,}"),
        ("folds and seeds", f"{len({(score.seed, score.fold) for score in run.scores}):,}"),
    ]
    for kind in ("model", "baseline"):
        best = next((each for each in run.standings if each.kind == kind and each.num_scored), None)
        if best is not None:
            tiles.append((f"{scores.metric_name(METRIC)}, best {kind}", number(best.mean)))
    return tiles


def _of_pairs(run: ConnectomeRun) -> list[ScorePicture]:
    if not len(plots.predicted_pairs(run)):
        return []
    return [each for each in (plots.scatter_picture(run), plots.distance_picture(run)) if each is not None]


def _difference_chart(run: ConnectomeRun, name: str) -> Figure | None:
    """Draw the differences of one predictor to others with their intervals; ``None`` where there are none."""
    known = [each for each in run.comparisons if each.name == name and np.isfinite(each.gap[:3]).all()]
    if not known:
        return None
    rows = [
        Score(
            shortened(f"against {each.against}", 50), {"model": each.gap.mean}, {"model": (each.gap.low, each.gap.high)}
        )
        for each in known
    ]
    metric = scores.metric_name(METRIC)
    picture = dot_plot(rows, x_name=f"difference in {metric}", title=f"{name}: differences in {metric} to others")
    return Figure(f"{name} against others", picture, "Where a line reaches over 0, the two cannot be told apart.")


def _furthest_off(run: ConnectomeRun) -> tuple[list[str], list[list[str]]]:
    """Return the pairs with the largest errors: regions, networks and distance where known, both values."""
    pairs = plots.predicted_pairs(run)
    error = np.abs(run.predicted - run.true)[tuple(pairs.T)]
    apart = None if run.coords is None else distances(run.coords)
    columns = ["region", "other region", "true", "predicted", *(["distance (mm)"] if apart is not None else [])]
    rows = []
    for i, j in pairs[np.argsort(-error, kind="stable")[:_MOST_PAIRS]]:
        row = [_region(run, i), _region(run, j), number(run.true[i, j]), number(run.predicted[i, j])]
        rows.append([*row, f"{apart[i, j]:.0f}"] if apart is not None else row)
    return columns, rows


def _region(run: ConnectomeRun, row: int) -> str:
    return run.regions[row] if run.networks is None else f"{run.regions[row]} ({run.networks[row]})"


def _write(path: Path, content: bytes) -> Path:
    check_output(path, force=True)
    temporary = path.with_name(path.name + ".writing")
    with whole_file(path):
        temporary.write_bytes(content)
        temporary.replace(path)
    return path
