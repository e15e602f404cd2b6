"""Curves over the steps of a run: losses and their terms, learning rate, gradient, speed."""

from __future__ import annotations

import math

from scmodelforge.report.charts import Level, Line, line_chart
from scmodelforge.report.sections.figure import Figure, LegendEntry, entry_of
from scmodelforge.report.text import number, percent
from scmodelforge.workflows.run_record import RunRecord

__all__ = ["loss_figures", "nothing_happened", "other_figures", "speed_facts", "speed_figures"]

_X = "optimiser step"
_FLOOR = "_floor"
# What is known of some metrics: title, axis with its unit, what one sees.
_KNOWN = {
    "lr": ("Learning rate", "learning rate", "The learning rate of each logged step."),
    "grad_norm": ("Gradient norm", "norm before clipping", "Norm of the gradient before clipping; spikes are batches "
                  "the model had trouble with."),
    "skipped_steps": ("Skipped steps", "steps so far", "Steps that were not taken, since loss or gradient were not "
                      "finite; 0 is good."),
    "loss_spikes": ("Leaps of the loss", "leaps so far", "Steps whose loss was far above those before; their cells are "
                    "kept in loss_spike_step_*.json."),
}  # fmt: skip
# What to say of a count that stayed at zero, in place of a curve.
_NEVER = {"skipped_steps": "no step was skipped", "loss_spikes": "the loss never leapt"}
_SPEED = {
    "cells_per_second": ("Cells per second", "cells / s", "Cells trained on per second, over all devices."),
    "tokens_per_second": ("Tokens per second", "tokens / s", "Tokens trained on per second, over all devices."),
    "data_wait_share": ("Waiting for data", "share of the time", "Share of the time in which training waited for data; "
                        "near 0 is good."),
    "step_seconds": ("Time of a step", "seconds", "Mean time of a step, waiting for data included."),
    "memory_gb": ("Memory of the GPU", "10^9 bytes", "Most memory that tensors had so far on the first GPU."),
    "mfu": ("Model FLOPs utilisation", "share of the peak", "Useful arithmetic over what the hardware could do."),
}  # fmt: skip


def loss_figures(run: RunRecord) -> list[Figure]:
    """Return the loss, and each of its terms if there are several, in training and validation."""
    names = _loss_names(run)
    terms = [name for name in names if name != "loss"]
    shown = names if len(terms) > 1 else names[:1]
    return [figure for name in shown if (figure := _loss_figure(run, name, terms)) is not None]


def other_figures(run: RunRecord) -> list[Figure]:
    """Return learning rate and gradient norm, and whatever else the run logged of its training."""
    known = set(_SPEED) | set(_loss_names(run))
    names = [name.removeprefix("train/") for name in run.metric_names() if name.startswith("train/")]
    rest = [name for name in names if name not in known and not name.endswith(_FLOOR)]
    figures = []
    for name in rest:
        title, axis, caption = _KNOWN.get(name, (name, name, f"train/{name} as logged."))
        counts = axis.endswith("so far")
        if name in _never(run):
            continue
        figures += _single(run, f"train/{name}", title, axis, caption, from_zero=counts)
    return figures


def nothing_happened(run: RunRecord) -> str:
    """Return a sentence on what was watched and did not happen, or nothing."""
    words = " and ".join(_NEVER[name] for name in _never(run))
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def speed_figures(run: RunRecord) -> list[Figure]:
    """Return how fast the run was."""
    figures = []
    for name, (title, axis, caption) in _SPEED.items():
        figures += _single(run, f"train/{name}", title, axis, caption, from_zero=True)
    return figures


def speed_facts(run: RunRecord) -> list[tuple[str, str]]:
    """Return medians of the speeds over the logged steps."""
    facts = []
    for name, (title, axis, _) in _SPEED.items():
        values = sorted(value for _, value in run.series(f"train/{name}"))
        if values:
            middle = values[len(values) // 2]
            is_share = axis.startswith("share")
            facts.append((f"{title}, median", percent(middle) if is_share else f"{number(middle)} {axis}"))
    return facts


def _never(run: RunRecord) -> list[str]:
    points = {name: run.series(f"train/{name}") for name in _NEVER}
    return [name for name, values in points.items() if values and not any(value for _, value in values)]


def _loss_names(run: RunRecord) -> list[str]:
    """Return ``loss`` and its terms: what validation has too; without validation, what stands in the log."""
    train = [name.removeprefix("train/") for name in run.metric_names() if name.startswith("train/")]
    val = [name.removeprefix("val/") for name in run.metric_names() if name.startswith("val/")]
    if not val:
        floors = [name.removesuffix(_FLOOR) for name in train if name.endswith(_FLOOR)]
        val = ["loss", *floors]
    names = [name for name in [*train, *val] if name in val and not name.endswith(_FLOOR)]
    return sorted(dict.fromkeys(names), key=lambda name: name != "loss")


def _loss_figure(run: RunRecord, name: str, terms: list[str]) -> Figure | None:
    parts = (("training", "train"), ("validation", "val"))
    lines = [Line(text, run.series(f"{key}/{name}"), key) for text, key in parts]
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    levels = _levels(run, name, terms)
    title = "Loss" if name == "loss" else name.replace("_", " ")
    caption = "The loss that training minimises" if name == "loss" else f"The term {name} of the loss"
    caption += ", in training (means over the targets of a step)" if lines[0].style == "train" else ""
    caption += " and on the held-out cells" if len(lines) > 1 else ""
    caption += "; lower is better." + "".join(f" {level.name.capitalize()}: {number(level.value)}." for level in levels)
    described = f"{title} by step: " + "; ".join(
        f"{line.name} from {number(line.points[0][1])} to {number(line.points[-1][1])}" for line in lines
    )
    legend = [entry_of(line) for line in lines]
    legend += [LegendEntry(level.name, level.style) for level in levels]
    chart = line_chart(lines, levels, x_name=_X, y_name="loss", title=described)
    return Figure(title, chart, caption, legend)


def _levels(run: RunRecord, name: str, terms: list[str]) -> list[Level]:
    """Return what a loss is worth: the least it can be, and what guessing all tokens alike would give."""
    levels = []
    of = [name] if name != "loss" else terms
    floors = [run.series(f"{part}/{term}{_FLOOR}") for part in ("val", "train") for term in of]
    known = [points[-1][1] for points in floors if points]
    if known and len(terms) <= 1:
        levels.append(Level("least possible", known[0], "floor"))
    tokens = run.facts.get("vocabulary", {}).get("tokens")
    if tokens and (name == "masked_gene" or (name == "loss" and terms == ["masked_gene"])):
        levels.append(Level("guessing any gene alike", math.log(tokens), "chance"))
    return levels


def _single(
    run: RunRecord, metric: str, title: str, axis: str, caption: str, *, from_zero: bool = False
) -> list[Figure]:
    points = run.series(metric)
    if not points:
        return []
    described = f"{title} by step, from {number(points[0][1])} to {number(points[-1][1])}"
    line = Line(title, points, "train")
    return [Figure(title, line_chart([line], x_name=_X, y_name=axis, title=described, from_zero=from_zero), caption)]
