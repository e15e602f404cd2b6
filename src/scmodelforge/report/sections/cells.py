"""Pictures of the held-out cells: as the model saw them through training, beside PCA and the untrained model."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup

from scmodelforge.report.plots import panel_png, project_2d, style_of
from scmodelforge.report.sections.figure import Figure, LegendEntry
from scmodelforge.workflows.run_record import RunRecord
from scmodelforge.workflows.views import KeptCells

__all__ = ["CellPictures", "cell_pictures"]

_MOST_NAMES = 40


@dataclass(frozen=True)
class CellPictures:
    """Panels coloured by one column, with the legend they share."""

    title: str
    caption: str
    panels: list[Figure]
    legend: list[LegendEntry]


def cell_pictures(run: RunRecord, *, method: Literal["auto", "pca"], seed: int = 0) -> list[CellPictures]:
    """Return the cells coloured by label, and by batch; uncoloured if they have neither."""
    cells = run.cells
    if cells is None:
        return []
    views = _views(run, cells)
    if not views:
        return []
    flat = {name: project_2d(rows, seed=seed, method=method) for name, rows in views.items()}
    columns = [("label", cells.label_key, cells.labels), ("batch", cells.batch_key, cells.batches)]
    known = [(kind, key, values) for kind, key, values in columns if values is not None]
    blank = np.full(len(next(iter(flat.values()))[0]), "", dtype=str)
    return [_coloured(cells, flat, *each, seed=seed) for each in known or [("", None, blank)]]


def _views(run: RunRecord, cells: KeptCells) -> dict[str, np.ndarray]:
    """Return the first, the middle and the last evaluation, the exported model if it is another, and the baselines."""
    steps = list(cells.steps)
    chosen = [steps[i] for i in sorted({0, (len(steps) - 1) // 2, len(steps) - 1})] if steps else []
    views = {f"model, step {step:,}": cells.steps[step] for step in chosen}
    exported = run.exported[0].step if run.exported else None
    if "model" in cells.others and exported not in chosen:
        at = f" (step {exported:,})" if exported is not None else ""
        views[f"exported model{at}"] = cells.others["model"]
    names = {
        "pca": "PCA of the counts",
        "untrained": "base model" if "fine_tuned_from" in run.facts else "untrained model",
    }
    return views | {text: cells.others[name] for name, text in names.items() if name in cells.others}


def _coloured(
    cells: KeptCells,
    flat: dict[str, tuple[np.ndarray, str]],
    kind: str,
    key: str | None,
    values: np.ndarray,
    *,
    seed: int,
) -> CellPictures:
    values, rest = _most_frequent(values)
    names = np.unique(values[values != ""])
    title = f"By {kind} ({key})" if kind else "Without labels"
    panels = []
    for name, (plane, axes_name) in flat.items():
        data = base64.b64encode(panel_png(plane, values, names=names, axes_name=axes_name, seed=seed)).decode("ascii")
        alt = f"{len(values):,} cells in a plane ({axes_name or 'as they are'}) as seen by: {name}"
        alt += f", coloured by {kind} '{key}' with {len(names):,} values" if kind else ", not coloured"
        picture = Markup('<img alt="{}" width="540" height="540" src="data:image/png;base64,{}">').format(alt, data)
        panels.append(Figure(name, picture, ""))
    legend = []
    for code, name in enumerate(names):
        colour, marker = style_of(code)
        legend.append(LegendEntry(f"{name} ({int((values == name).sum()):,})", colour=colour, marker=marker))
    if (values == "").any() and kind:
        text = f"{rest:,} rarer values, or none" if rest else f"no {kind}"
        legend.append(LegendEntry(f"{text} ({int((values == '').sum()):,})", colour="#BBBBBB", marker="o"))
    return CellPictures(title, _caption(cells, next(iter(flat.values()))[1], kind), panels, legend)


def _caption(cells: KeptCells, method: str, kind: str) -> str:
    num = len(next(iter(cells.others.values())) if cells.others else next(iter(cells.steps.values())))
    which = f"The {num:,} held-out cells" if num == cells.num_scored else (
        f"{num:,} of the {cells.num_scored:,} held-out cells that were scored")  # fmt: skip
    where = "" if cells.dataset == "heldout" else f" of {cells.dataset}"
    how = {"UMAP": "UMAP of each embedding", "PCA": "The first two principal components of each embedding"}.get(
        method, ""
    )
    text = f"{which}{where}; every panel shows the same cells. {how or 'The embeddings'}, on its own: "
    text += "who is near whom can be compared between panels, places cannot."
    aim = {"label": " Good embeddings keep labels apart.", "batch": " Good embeddings mix batches."}
    return text + aim.get(kind, "")


def _most_frequent(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Return values with all but the most frequent ones emptied, and how many those were."""
    names, counts = np.unique(values[values != ""], return_counts=True)
    if len(names) <= _MOST_NAMES:
        return values, 0
    kept = names[np.argsort(-counts, kind="stable")[:_MOST_NAMES]]
    return np.where(np.isin(values, kept), values, ""), len(names) - _MOST_NAMES
