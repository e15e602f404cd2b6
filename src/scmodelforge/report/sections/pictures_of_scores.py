"""Scores as pictures: the table of embeddings, confusion matrices, single perturbations."""

from __future__ import annotations

import base64

from markupsafe import Markup

from scmodelforge.report.score_pictures import ScorePicture, score_pictures
from scmodelforge.report.sections.figure import Figure
from scmodelforge.workflows.run_record import RunRecord

__all__ = ["picture_figure", "picture_figures"]

_SHARPNESS = 1.6  # dots of the picture for one of the page


def picture_figures(run: RunRecord) -> list[Figure]:
    """Return the pictures of the evaluation that counts."""
    return [picture_figure(each) for each in score_pictures(run.latest(), is_tuned=run.is_fine_tuned)]


def picture_figure(picture: ScorePicture) -> Figure:
    """Return a picture with its caption; narrow pages move it sideways, which keeps it legible."""
    form = Markup(
        '<div class="picture" tabindex="0"><img alt="{}" width="{}" height="{}" src="data:image/png;base64,{}"></div>'
    )
    width, height = (int.from_bytes(picture.png[at : at + 4], "big") for at in (16, 20))  # of a PNG's header
    size = round(width / _SHARPNESS), round(height / _SHARPNESS)
    text = f"{picture.title}. {picture.caption}"
    drawn = form.format(text, *size, base64.b64encode(picture.png).decode("ascii"))
    return Figure(picture.title, drawn, picture.caption)
