"""Pictures of a connectome run: matrices, pair by pair, errors over distance, predictors, pairs of genes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from scmodelforge._optional import require
from scmodelforge.connectome.geometry import distances
from scmodelforge.connectome.metrics import connectivity_metrics
from scmodelforge.report.connectome_matrix import draw_matrix, scale_of
from scmodelforge.report.connectome_run import ConnectomeRun
from scmodelforge.report.connectome_scores import metric_name
from scmodelforge.report.picture_text import shown
from scmodelforge.report.score_pictures import ScorePicture
from scmodelforge.report.text import number
from scmodelforge.workflows.connectome.standing import METRIC, Where

__all__ = [
    "distance_picture",
    "gene_picture",
    "matrix_picture",
    "predicted_pairs",
    "predictor_picture",
    "scatter_picture",
]

_DPI = 150
_BLUE, _ORANGE, _SOFT = "#0072b2", "#d55e00", "#57606a"
_MOST_BINS, _FEWEST_OF_A_BIN = 12, 20
_MOST_GENE_PAIRS = 20


def matrix_picture(run: ConnectomeRun, which: Sequence[str] = ("true", "predicted")) -> ScorePicture:
    """Draw the true and the predicted matrix, or one of them, in one order and with one scale of colours."""
    figure = _figure(5.4 * len(which), 5.0)
    scale = scale_of(run)
    for axes, name in zip(figure.subplots(1, len(which), squeeze=False)[0], which, strict=True):
        draw_matrix(axes, run, name, scale)
        if len(which) > 1:
            axes.set_title(f"{name} connectivity", fontsize=11)
    title = " and ".join(which).capitalize() + " connectivity"
    ordered = "ordered by network" if run.networks is not None else "in the order of the file"
    caption = f"{len(run.regions):,} regions, {ordered}. Both matrices have the same colours, "
    caption += f"from {number(scale.low)} to {number(scale.high)}{scale.cut}."
    if "predicted" in which:
        caption += f" Predicted by {run.predictor}. Grey pairs have no prediction: no fold held out both regions."
    name = "matrices" if len(which) > 1 else f"matrix_{which[0]}"
    return ScorePicture(name, title, caption, _png(figure))


def scatter_picture(run: ConnectomeRun) -> ScorePicture:
    """Draw predicted against true connectivity, a dot for each pair."""
    pairs = predicted_pairs(run)
    true, found = run.true[tuple(pairs.T)], run.predicted[tuple(pairs.T)]
    r = connectivity_metrics(true, found)["pearson_r"]
    figure = _figure(4.9, 4.7)
    axes = figure.subplots()
    low, high = float(min(true.min(), found.min())), float(max(true.max(), found.max()))
    pad = 0.04 * (high - low) or 0.1
    axes.plot([low, high], [low, high], color="#888888", linewidth=1, linestyle="--", zorder=1)
    size = float(np.clip(16_000 / len(pairs), 3, 22))
    alpha = float(np.clip(1500 / len(pairs), 0.05, 0.6))
    axes.scatter(true, found, s=size, c=_BLUE, alpha=alpha, linewidths=0, zorder=2)
    axes.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad))
    axes.set_aspect("equal")
    r_text = f"r = {number(r)}" if np.isfinite(r) else "r is not defined"
    axes.text(0.03, 0.96, f"{r_text}, all folds at once", transform=axes.transAxes, va="top", fontsize=11)
    _finish(axes, "true connectivity", "predicted connectivity")
    caption = f"Each dot is one of {len(pairs):,} pairs with a prediction by {run.predictor}, the mean over seeds; "
    caption += (
        f"{r_text} over all of them at once, the folds together. The tables have the mean of the r of each fold on its "
    )
    caption += "own: the two differ where folds differ in level or in spread. On the dashed line both are equal."
    return ScorePicture("scatter", "Predicted against true connectivity", caption, _png(figure))


def distance_picture(run: ConnectomeRun) -> ScorePicture | None:
    """Draw the absolute error over distance in bins of as many pairs; ``None`` without coordinates."""
    if run.coords is None:
        return None
    pairs = tuple(predicted_pairs(run).T)
    apart = distances(run.coords)[pairs]
    error = np.abs(run.predicted[pairs] - run.true[pairs])
    order = np.argsort(apart, kind="stable")
    bins = np.array_split(order, int(np.clip(len(order) // _FEWEST_OF_A_BIN, 1, _MOST_BINS)))
    middle = [float(np.median(apart[rows])) for rows in bins]
    low, median, high = np.array([np.quantile(error[rows], (0.25, 0.5, 0.75)) for rows in bins]).T
    figure = _figure(4.9, 4.7)
    axes = figure.subplots()
    axes.errorbar(middle, median, yerr=[median - low, high - median], fmt="none", ecolor=_BLUE, alpha=0.45, capsize=3)
    axes.plot(middle, median, color=_BLUE, marker="o", markersize=5, linewidth=1.8)
    axes.set_ylim(bottom=0)
    _finish(axes, "distance of the regions (mm)", "absolute error")
    num = "all pairs" if len(bins) == 1 else f"{len(bins)} bins of about {len(order) // len(bins):,} pairs"
    caption = f"Median of the absolute error in {num}, at their median distance; bars reach from the lower to the "
    caption += "upper quartile."
    return ScorePicture("error_over_distance", "Error over distance", caption, _png(figure))


def predictor_picture(run: ConnectomeRun, where: Where) -> ScorePicture | None:
    """Draw the Pearson r of each predictor: a dot for each fold, a bar at the mean; ``None`` if none has one."""
    ranked = [each for each in run.standings if len(each.values(METRIC, where))]
    if not ranked:
        return None
    figure = _figure(4.9, 0.9 + 0.42 * len(ranked))
    axes = figure.subplots()
    beside_names = axes.get_yaxis_transform()  # across in shares of the width, down in rows
    for y, each in enumerate(ranked):
        colour, shape = (_BLUE, "o") if each.kind == "model" else (_ORANGE, "s")
        values = each.values(METRIC, where)
        axes.scatter(values, [y + 0.2] * len(values), s=20, c=colour, marker=shape, alpha=0.45, linewidths=0, zorder=2)
        axes.plot([np.mean(values)] * 2, [y, y + 0.4], color=colour, linewidth=2.4, zorder=3)
        name = shown(f"{each.name} ({each.knows})", 56)
        axes.text(0.0, y - 0.08, name, transform=beside_names, fontsize=8.5, va="bottom")
    axes.set(yticks=[], ylim=(len(ranked) - 0.4, -0.6))
    axes.grid(axis="x", color="#e3e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    which = "both regions held out" if where == "inner" else "one region held out"
    _finish(axes, f"{metric_name(METRIC)}, {which}", "")
    caption = "Each dot is a fold, the bar is their mean; blue and round are models, orange and square baselines. "
    caption += "In brackets: what the predictor knows of a region."
    return ScorePicture(f"predictors_{where}", f"{metric_name(METRIC)}, {which}", caption, _png(figure))


def gene_picture(run: ConnectomeRun) -> ScorePicture | None:
    """Draw the pairs of genes with the most attention; ``None`` if the run has none."""
    if not run.gene_pairs:
        return None
    top = run.gene_pairs[:_MOST_GENE_PAIRS]
    figure = _figure(4.9, 1.0 + 0.26 * len(top))
    axes = figure.subplots()
    axes.barh(range(len(top)), [pair.attention for pair in top], color=_BLUE, height=0.7)
    names = [f"{shown(pair.gene_i, 20)} → {shown(pair.gene_j, 20)}" for pair in top]
    axes.set_yticks(range(len(top)), names)
    axes.set_ylim(len(top) - 0.4, -0.6)
    _finish(axes, "attention", "")
    axes.tick_params(axis="y", labelsize=8.5, length=0)
    caption = f"The {len(top)} pairs of genes with the most attention of {len(run.gene_pairs):,} in the file: the gene "
    caption += "of one region that looks, and the gene of the other that it looks at."
    return ScorePicture("gene_pairs", "Pairs of genes with the most attention", caption, _png(figure))


def predicted_pairs(run: ConnectomeRun) -> np.ndarray:
    """Return the pairs with a prediction, shape (n, 2); each once where neither matrix has a direction."""
    has_both = np.isfinite(run.predicted) & ~np.eye(len(run.regions), dtype=bool)
    is_symmetric = np.array_equal(has_both, has_both.T) and all(
        np.allclose(each[has_both], each.T[has_both]) for each in (run.true, run.predicted)
    )
    return np.argwhere(np.triu(has_both) if is_symmetric else has_both)


def _finish(axes: Any, x_name: str, y_name: str) -> None:
    axes.set_xlabel(x_name, fontsize=9.5)
    axes.set_ylabel(y_name, fontsize=9.5)
    axes.tick_params(labelsize=8.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _figure(width: float, height: float) -> Any:
    require("matplotlib", extra="report", why="Drawing a picture")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # drawn as a box
        figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()
