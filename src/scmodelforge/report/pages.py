"""The frame of every page: templates, style sheet, and the marks of legends."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scmodelforge import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render_page"]

_TEMPLATES = Path(__file__).parent / "templates"
# The markers of the pictures of cells as paths, and those of the representations, both around (0, 0).
_SHAPES = {
    "o": "M-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0Z",
    "^": "M0,-5L5,4H-5Z",
    "s": "M-4,-4H4V4H-4Z",
    "D": "M0,-5.5L5.5,0L0,5.5L-5.5,0Z",
    "v": "M0,5L5,-4H-5Z",
    "P": "M-1.7,-5H1.7V-1.7H5V1.7H1.7V5H-1.7V1.7H-5V-1.7H-1.7Z",
    "X": "M-5,-2.6L-2.6,-5L0,-2.4L2.6,-5L5,-2.6L2.4,0L5,2.6L2.6,5L0,2.4L-2.6,5L-5,2.6L-2.4,0Z",
    "*": "M0,-5.8L1.4,-1.9L5.5,-1.8L2.3,.7L3.4,4.7L0,2.4L-3.4,4.7L-2.3,.7L-5.5,-1.8L-1.4,-1.9Z",
}


def render_page(template: str, contents: Mapping[str, Any]) -> str:
    """Return a page of one of the templates; what it shows is escaped.

    Parameters
    ----------
    template
        File name of the template.
    contents
        Its variables.
    """
    from markupsafe import Markup

    style = Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return _templates().get_template(template).render(**contents, style=style, version=__version__)


@functools.cache
def _templates() -> Environment:
    """Return the templates, each of which is compiled once for all pages of a process."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from scmodelforge.report.charts import MARKS

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["counts"] = _counts
    environment.globals |= {"shapes": _SHAPES, "marks": MARKS}
    return environment


def _counts(rows: Sequence[Sequence[Any]]) -> Any:
    """Return a category with its counts as text; those without a value have a name too."""
    name, *numbers = rows
    return [name or "(missing)", *(f"{number:,}" for number in numbers)]
