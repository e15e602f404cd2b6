"""A figure of a page: a picture with a caption that says what one sees."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup

from scmodelforge.report.charts import Line

__all__ = ["Figure", "LegendEntry", "entry_of", "name_of_representation", "style_of_representation"]

#: What the representations of the results are called on the page.
_NAMES = {
    "model": "model",
    "pca": "PCA of the counts",
    "hvg": "variable genes",
    "scvi": "scVI",
    "untrained": "untrained model",
    "random": "random vectors",
    "majority": "constant guess: majority",
}
#: Those with a style of their own.
_STYLED = frozenset({"model", "pca", "hvg", "untrained", "random"})


@dataclass(frozen=True)
class LegendEntry:
    """A line of a legend: a style of the charts, or a colour and a marker of the pictures of cells."""

    name: str
    style: str = ""
    colour: str = ""
    marker: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture, its title, its legend and its caption."""

    title: str
    picture: Markup
    caption: str
    legend: list[LegendEntry] = field(default_factory=list)


def entry_of(line: Line) -> LegendEntry:
    """Return the legend's line of a line of a chart; one of a single point is drawn as a dot, here as there."""
    return LegendEntry(line.name, line.style if len(line.points) > 1 else f"dot {line.style}")


def name_of_representation(name: str, *, is_tuned: bool = False) -> str:
    """Return what a representation, or a baseline of another kind, of a run that may adapt a model is called."""
    if is_tuned and name == "untrained":
        return "base model"
    return _NAMES.get(name, name.replace("_", " "))


def style_of_representation(name: str) -> str:
    """Return the style of a representation in charts; all constant guesses and others share one."""
    return name if name in _STYLED else "other"
