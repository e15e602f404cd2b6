"""Metrics as a table: one row a step."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

__all__ = ["as_csv"]


def as_csv(records: Iterable[dict[str, Any]]) -> str:
    """Return records of metrics as a table with a row for each step and a column for each name.

    Records of one step that follow each other are one row; of a figure they both have the later one counts. What a
    step has no figure for is empty, and so is a figure that is not finite. Columns stand in the order in which their
    names first come.

    Parameters
    ----------
    records
        What :class:`~scmodelforge.training.metrics.MetricsLog` wrote, each with a ``step``.
    """
    rows: list[dict[str, Any]] = []
    names: dict[str, None] = {}
    for record in records:
        names |= dict.fromkeys(record)
        if rows and rows[-1]["step"] == record["step"]:
            rows[-1].update(record)
        else:
            rows.append(dict(record))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(names), restval="", lineterminator="\n")
    if names:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
