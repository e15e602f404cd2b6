"""Pictures of scores: a table of metrics by embedding, a confusion matrix, scores of single perturbations."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from scmodelforge._optional import require

__all__ = ["confusion_png", "perturbations_png", "table_png"]

_MOST_LABELS_WITH_COUNTS = 20
_SOFT = "#57606a"
_DPI = 150


def table_png(columns: Sequence[tuple[str, str]], rows: Mapping[str, Sequence[float | None]], *, title: str) -> bytes:
    """Draw scores as scIB does: a circle for each, larger and darker for a higher one, bars for aggregates.

    Parameters
    ----------
    columns
        Group and name of each metric; those of the group ``aggregate`` are bars.
    rows
        Scores by embedding, 0 to 1; ``None`` where there is none.
    title
        Title.
    """
    figure = _figure(2.6 + 0.92 * len(columns), 1.9 + 0.42 * len(rows))
    axes = figure.subplots()
    for y, (name, values) in enumerate(rows.items()):
        axes.text(-0.75, y, name, ha="right", va="center", fontsize=9.5)
        for x, (value, (group, _)) in enumerate(zip(values, columns, strict=True)):
            _draw_score(axes, x, y, value, is_bar=group == "aggregate")
    for x, (_, name) in enumerate(columns):
        axes.text(x, -0.75, name, ha="left", va="bottom", rotation=35, fontsize=8.5, rotation_mode="anchor")
    _draw_groups(axes, [group for group, _ in columns], y=len(rows) - 0.35)
    axes.set(xlim=(-0.6, len(columns) + 0.3), ylim=(len(rows) + 0.1, -0.6))
    axes.set_axis_off()
    figure.suptitle(title, fontsize=11)
    return _png(figure)


def confusion_png(labels: Sequence[str], panels: Mapping[str, np.ndarray], *, title: str) -> bytes:
    """Draw confusion matrices side by side; colours are shares of the cells of each true label.

    Parameters
    ----------
    labels
        Names of rows and columns.
    panels
        Cells by true label (rows) and given label (columns), each shape (L, L), by name.
    title
        Title.
    """
    size = max(2.4, 0.33 * len(labels))
    room = 0.075 * max(len(label) for label in labels)
    figure = _figure((size + 0.5) * len(panels) + room + 0.8, size + room + 1.4, layout="compressed")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for number, (axes, (name, counts)) in enumerate(zip(grid, panels.items(), strict=True)):
        totals = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_title(name, fontsize=10)
        places = np.arange(len(labels))
        axes.set_xticks(places, labels, rotation=90, fontsize=8)
        axes.set_yticks(places, labels if number == 0 else [""] * len(labels), fontsize=8)
        axes.set_xlabel("given label", fontsize=9, color=_SOFT)
        if number == 0:
            axes.set_ylabel("true label", fontsize=9, color=_SOFT)
        axes.tick_params(length=0)
        if len(labels) <= _MOST_LABELS_WITH_COUNTS:
            for y, x in zip(*np.nonzero(counts), strict=True):
                ink = "white" if shares[y, x] > 0.55 else "black"
                axes.text(x, y, f"{int(counts[y, x])}", ha="center", va="center", fontsize=7, color=ink)
    figure.suptitle(title, fontsize=11)
    return _png(figure)


def perturbations_png(
    names: Sequence[str], model: np.ndarray, other: np.ndarray | None, *, metric: str, other_name: str, title: str
) -> bytes:
    """Draw a dot for each perturbation: the model's score against that of a baseline, or in order where there is none.

    Parameters
    ----------
    names
        The perturbations.
    model, other
        Scores, shape (n,); ``other`` are the baseline's.
    metric, other_name
        What the axes are.
    title
        Title.
    """
    figure = _figure(4.8, 4.6)
    axes = figure.subplots()
    order = np.argsort(model, kind="stable")
    across = np.empty(len(model))
    across[order] = np.arange(1, len(model) + 1)
    xs = across if other is None else other
    axes.scatter(xs, model, s=22, c="#0072b2", linewidths=0.3, edgecolors="white", zorder=3)
    if other is None:
        told = np.unique(np.concatenate([order[:4], order[-4:]]))
    else:
        low, high = float(min(xs.min(), model.min())), float(max(xs.max(), model.max()))
        axes.plot([low, high], [low, high], color="#888888", linewidth=1, linestyle="--", zorder=1)
        told = np.argsort(-np.abs(model - xs), kind="stable")[:8]
    for item in told:
        axes.annotate(names[item], (xs[item], model[item]), xytext=(4, 3), textcoords="offset points", fontsize=7)
    axes.set_xlabel("perturbations, in order of the score" if other is None else f"{metric}, {other_name}", fontsize=9)
    axes.set_ylabel(f"{metric}, model", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.margins(0.08)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.suptitle(title, fontsize=10)
    return _png(figure)


def _draw_score(axes: Any, x: int, y: int, value: float | None, *, is_bar: bool) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Circle, Rectangle

    if value is None:
        axes.text(x, y, "-", ha="center", va="center", fontsize=8.5, color=_SOFT)
        return
    share = float(np.clip(value, 0.0, 1.0))
    colour = colormaps["YlGnBu"](0.08 + 0.8 * share)
    if is_bar:
        axes.add_patch(Rectangle((x - 0.42, y - 0.27), 0.84, 0.54, facecolor="#eef1f4", linewidth=0))
        axes.add_patch(Rectangle((x - 0.42, y - 0.27), 0.84 * share, 0.54, facecolor=colour, linewidth=0))
    else:
        axes.add_patch(Circle((x, y), 0.2 + 0.24 * share, facecolor=colour, linewidth=0))
        axes.set_aspect("equal")
    ink = "white" if share > 0.6 else "black"
    axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=7.5, color=ink)


def _draw_groups(axes: Any, groups: Sequence[str], *, y: float) -> None:
    """Write the name of each group of columns below them, with a line."""
    start = 0
    for place in range(1, len(groups) + 1):
        if place < len(groups) and groups[place] == groups[start]:
            continue
        axes.plot([start - 0.4, place - 0.6], [y, y], color=_SOFT, linewidth=1)
        axes.text((start + place - 1) / 2, y + 0.08, groups[start], ha="center", va="top", fontsize=8.5, color=_SOFT)
        start = place


def _figure(width: float, height: float, *, layout: Literal["constrained", "compressed"] = "constrained") -> Any:
    require("matplotlib", extra="report", why="Drawing a picture")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
    return file.getvalue()
