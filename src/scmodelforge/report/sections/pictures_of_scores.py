"""Scores as pictures: the table of embeddings, confusion matrices, single perturbations."""

from __future__ import annotations

import base64

from markupsafe import Markup

from scmodelforge.report.score_pictures import score_pictures
from scmodelforge.report.sections.figure import Figure
from scmodelforge.workflows.run_record import RunRecord

__all__ = ["picture_figures"]

_SHARPNESS = 1.6  # dots of the picture for one of the page


def picture_figures(run: RunRecord) -> list[Figure]:
    """Return the pictures of the evaluation that counts; narrow pages move them sideways, which keeps them legible."""
    form = Markup(
        '<div class="picture" tabindex="0"><img alt="{}" width="{}" height="{}" src="data:image/png;base64,{}"></div>'
    )
    figures = []
    for each in score_pictures(run.latest(), is_tuned=run.is_fine_tuned):
        width, height = (int.from_bytes(each.png[at : at + 4], "big") for at in (16, 20))  # of a PNG's header
        size = round(width / _SHARPNESS), round(height / _SHARPNESS)
        picture = form.format(f"{each.title}. {each.caption}", *size, base64.b64encode(each.png).decode("ascii"))
        figures.append(Figure(each.title, picture, each.caption))
    return figures
