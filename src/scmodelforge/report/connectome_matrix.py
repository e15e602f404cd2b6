"""A matrix of connectivity as a picture: in the order of networks, with their names, pairs without a value grey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scmodelforge.report.connectome_run import ConnectomeRun
from scmodelforge.report.picture_text import shown

__all__ = ["Scale", "draw_matrix", "network_order", "scale_of"]

_GREY = "#b4bac0"
_MOST_REGION_NAMES = 40
_ROOM_OF_A_NAME = 1 / 30  # of the matrix
_FAR_BELOW_ZERO = 0.2  # from here on zero is the middle of the colours


@dataclass(frozen=True)
class Scale:
    """The range of colours of both matrices; ``cut`` says in words what lies beyond."""

    low: float
    high: float
    colours: str
    extend: str
    cut: str


def scale_of(run: ConnectomeRun) -> Scale:
    """Return a scale that holds 98 of 100 values of both matrices, so that a few strong pairs do not hide the rest."""
    between = ~np.eye(len(run.regions), dtype=bool)
    values = np.concatenate([run.true[between], run.predicted[between & np.isfinite(run.predicted)]])
    low, high = (float(each) for each in np.quantile(values, (0.01, 0.99)))
    colours = "viridis"
    if low < -_FAR_BELOW_ZERO * max(high, 0):
        low, high, colours = -max(-low, high), max(-low, high), "RdBu_r"
    if low == high:
        low, high = low - 0.5, high + 0.5
    is_below, is_above = bool((values < low).any()), bool((values > high).any())
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get((is_below, is_above), "neither")
    cut = "; the few values beyond have the outermost ones" if extend != "neither" else ""
    return Scale(low, high, colours, extend, cut)


def network_order(run: ConnectomeRun) -> tuple[np.ndarray, list[tuple[str, int, int]]]:
    """Return the regions in the order they are drawn, and name, start and end of each network there.

    Networks come in the order in which the regions name them first, and regions within one in their own.
    """
    if run.networks is None:
        return np.arange(len(run.regions)), []
    names = list(dict.fromkeys(run.networks))
    codes = np.array([names.index(name) for name in run.networks])
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(names)))
    starts = ends - np.bincount(codes, minlength=len(names))
    return order, [(name, int(a), int(b)) for name, a, b in zip(names, starts, ends, strict=True)]


def draw_matrix(axes: Any, run: ConnectomeRun, which: str, scale: Scale) -> None:
    """Draw the ``true`` or the ``predicted`` matrix; the diagonal is grey in both."""
    from matplotlib import colormaps

    order, blocks = network_order(run)
    count = len(order)
    matrix = (run.true if which == "true" else run.predicted)[np.ix_(order, order)]
    matrix = np.where(np.eye(count, dtype=bool), np.nan, matrix)
    colours = colormaps[scale.colours].with_extremes(bad=_GREY)
    drawn = axes.imshow(matrix, cmap=colours, vmin=scale.low, vmax=scale.high, interpolation="nearest")
    bar = axes.figure.colorbar(drawn, ax=axes, extend=scale.extend, fraction=0.046, pad=0.03)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    if blocks:
        _name_networks(axes, blocks, count, colour="white" if scale.colours == "viridis" else "#333333")
    elif count <= _MOST_REGION_NAMES:
        names = [shown(name, 20) for name in run.regions]
        axes.set_xticks(range(count), names, rotation=90, fontsize=7)
        axes.set_yticks(range(count), names, fontsize=7)
        axes.tick_params(length=0)
    else:
        axes.set(xticks=[], yticks=[], xlabel="region", ylabel="region")


def _name_networks(axes: Any, blocks: list[tuple[str, int, int]], count: int, *, colour: str) -> None:
    """Draw lines between networks and write their names, moved apart where they are small."""
    for _, _, end in blocks[:-1]:
        for draw in (axes.axhline, axes.axvline):
            draw(end - 0.5, color=colour, linewidth=0.9)
    axes.set(xticks=[], yticks=[])
    if len(blocks) * _ROOM_OF_A_NAME > 1:
        axes.set(xlabel=f"{len(blocks)} networks", ylabel=f"{len(blocks)} networks")
        return
    middles = [(start + end - 1) / 2 for _, start, end in blocks]
    places = _spread(middles, room=count * _ROOM_OF_A_NAME, low=-0.5, high=count - 0.5)
    line = {"arrowstyle": "-", "color": "#888888", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
    left: dict[str, Any] = {"ha": "right", "va": "center", "arrowprops": line | {"relpos": (1, 0.5)}}
    below: dict[str, Any] = {"ha": "center", "va": "top", "rotation": 90, "arrowprops": line | {"relpos": (0.5, 1)}}
    for (name, _, _), middle, place in zip(blocks, middles, places, strict=True):
        text = shown(name, 18)
        axes.annotate(text, (-0.5, middle), (-0.04 * count, place), fontsize=8, **left)
        axes.annotate(text, (middle, count - 0.5), (place, 1.04 * count), fontsize=8, **below)


def _spread(wanted: list[float], *, room: float, low: float, high: float) -> list[float]:
    """Return ascending places moved apart so that each has its room, none beyond the ends."""
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + room if places else low + room / 2))
    limit = high - room / 2
    for i in reversed(range(len(places))):
        places[i] = min(places[i], limit)
        limit = places[i] - room
    return places
