"""Charts as inline SVG: lines over steps, and scores with intervals. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup

from scmodelforge.report.text import number

__all__ = ["MARKS", "Level", "Line", "Score", "dot_plot", "line_chart", "nice_ticks"]

_WIDTH, _HEIGHT = 420, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 12, 12, 42
_MOST_POINTS = 300
_ROW = 50
_MARGIN = 16

#: The marks of representations as paths around (0, 0).
MARKS = {
    "model": "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0Z",
    "pca": "M-4,-4H4V4H-4Z",
    "hvg": "M0,5L4.8,-4H-4.8Z",
    "untrained": "M0,-5L4.8,4H-4.8Z",
    "random": "M0,-5L5,0L0,5L-5,0Z",
    "other": "M-5,-1.2H5V1.2H-5Z",
}


@dataclass(frozen=True)
class Line:
    """Values over steps.

    Attributes
    ----------
    name
        For the legend.
    points
        Step and value; at least one.
    style
        Class of the style sheet, such as ``model`` or ``train``.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: str


@dataclass(frozen=True)
class Level:
    """A value that holds at every step: a baseline, a floor."""

    name: str
    value: float
    style: str


@dataclass(frozen=True)
class Score:
    """A row of a dot plot: scores by representation, with intervals where known."""

    name: str
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


def line_chart(
    lines: Sequence[Line],
    levels: Sequence[Level] = (),
    *,
    x_name: str,
    y_name: str,
    title: str,
    from_zero: bool = False,
    steps: tuple[float, float] | None = None,
) -> Markup:
    """Return a chart of lines and levels; ``title`` is what it shows, for those who cannot see it.

    More than 300 points of a line are averaged over neighbours. ``steps`` are the ends of the x axis, by default those
    of the lines; ``from_zero`` begins the y axis at zero.
    """
    lines = [Line(line.name, _thinned(line.points), line.style) for line in lines]
    xs = [x for line in lines for x, _ in line.points] + list(steps or ())
    ys = [y for line in lines for _, y in line.points] + [level.value for level in levels]
    low, high = (0.0, max(ys) or 1.0) if from_zero else (min(ys), max(ys))
    x_ticks, y_ticks = nice_ticks(min(xs), max(xs), 5), nice_ticks(low, high, 5)
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1)
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def across(x: float) -> float:
        return _LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)

    def down(y: float) -> float:
        return _TOP + (y_high - y) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)

    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for y in y_ticks:
        parts.append(_segment("grid", _LEFT, down(y), right, down(y)))
        parts.append(_label(_tick(y), _LEFT - 6, down(y) + 4, anchor="end"))
    for x in x_ticks:
        if x_low <= x <= x_high:
            parts.append(_segment("tick", across(x), bottom, across(x), bottom + 4))
            parts.append(_label(_tick(x), across(x), bottom + 17))
    parts.append(_segment("axis", _LEFT, bottom, right, bottom))
    parts.append(_label(x_name, (_LEFT + right) / 2, _HEIGHT - 6, style="name"))
    middle = (_TOP + bottom) / 2
    parts.append(
        Markup('<text class="name" text-anchor="middle" transform="translate(13 {:.1f}) rotate(-90)">{}</text>').format(
            middle, y_name
        )
    )
    parts += [_segment(f"level {lv.style}", _LEFT, down(lv.value), right, down(lv.value), lv.name) for lv in levels]
    parts += [_path(line, [(across(x), down(y)) for x, y in line.points]) for line in lines]
    return _svg(parts, _WIDTH, _HEIGHT, title)


def dot_plot(scores: Sequence[Score], *, x_name: str, title: str) -> Markup:
    """Return a row for each score with a mark for each representation, and lines for intervals."""
    values = [v for row in scores for v in row.values.values()]
    values += [v for row in scores for pair in row.intervals.values() for v in pair]
    ticks = nice_ticks(min(0.0, min(values)), max(0.0, max(values)), 5)
    low, high = ticks[0], ticks[-1]
    height = _ROW * len(scores) + 52
    width = _WIDTH

    def across(x: float) -> float:
        return _MARGIN + (x - low) / (high - low) * (width - 2 * _MARGIN)

    bottom = height - 44
    parts = [_segment("grid", across(x), 6, across(x), bottom) for x in ticks]
    parts += [_label(_tick(x), across(x), bottom + 17) for x in ticks]
    parts.append(_label(x_name, width / 2, height - 6, style="name"))
    for row, score in enumerate(scores):
        y = 6 + _ROW * (row + 0.66)
        parts.append(_label(score.name, _MARGIN, 6 + _ROW * row + 12, anchor="start", style="row"))
        names = [name for name in score.values if name != "model"] + [n for n in score.values if n == "model"]
        for place, name in enumerate(names):
            shift = y + (place - (len(names) - 1) / 2) * min(6.0, 22 / len(names))
            if name in score.intervals:
                first, last = score.intervals[name]
                parts.append(_segment(f"interval {_style(name)}", across(first), shift, across(last), shift))
            text = f"{score.name}, {name}: {number(score.values[name])}"
            parts.append(_mark(name, across(score.values[name]), shift, text))
    return _svg(parts, width, height, title)


def nice_ticks(low: float, high: float, wanted: int) -> list[float]:
    """Return round numbers, about as many as wanted, from at or below ``low`` to at or above ``high``."""
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / wanted
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(each * unit for each in (1, 2, 2.5, 5, 10) if each * unit >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12 - math.floor(math.log10(step))) for number in range(first, last + 1)]


def _tick(value: float) -> str:
    """Return a round number without zeros that say nothing."""
    if value and abs(value) < 1e-4:
        mantissa, _, exponent = f"{value:.6e}".partition("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:,.10g}"


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    if len(points) <= _MOST_POINTS:
        return points
    bounds = [len(points) * i // _MOST_POINTS for i in range(_MOST_POINTS + 1)]
    groups = [points[a:b] for a, b in pairwise(bounds)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _style(name: str) -> str:
    return name if name in MARKS else "other"


def _svg(parts: Sequence[Markup], width: int, height: int, title: str) -> Markup:
    body = Markup("").join(parts)
    form = '<svg viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>'
    return Markup(form).format(width, height, title, title, body)


def _segment(style: str, x1: float, y1: float, x2: float, y2: float, title: str = "") -> Markup:
    form = '<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}">{}</line>'
    inner = Markup("<title>{}</title>").format(title) if title else Markup("")
    return Markup(form).format(style, x1, y1, x2, y2, inner)


def _label(text: str, x: float, y: float, *, anchor: str = "middle", style: str = "tick-text") -> Markup:
    form = '<text class="{}" text-anchor="{}" x="{:.1f}" y="{:.1f}">{}</text>'
    return Markup(form).format(style, anchor, x, y, text)


def _path(line: Line, points: Sequence[tuple[float, float]]) -> Markup:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    if len(points) > 1:
        form = '<polyline class="line {}" points="{}"><title>{}</title></polyline>'
        drawn = Markup(form).format(line.style, places, line.name)
    else:
        drawn = Markup("")
    if len(points) <= 12:  # few enough to see where each is
        form = '<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="2.8"></circle>'
        drawn += Markup("").join(Markup(form).format(line.style, x, y) for x, y in points)
    return drawn


def _mark(name: str, x: float, y: float, text: str) -> Markup:
    """Return a mark whose shape says what it is, not its colour alone."""
    shape = MARKS[_style(name)]
    form = '<path class="mark {}" d="{}" transform="translate({:.1f} {:.1f})"><title>{}</title></path>'
    return Markup(form).format(_style(name), shape, x, y, text)
