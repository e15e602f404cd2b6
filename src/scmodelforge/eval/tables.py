"""Results as a table that fits a terminal: one block for each benchmark, one column for each representation."""

from __future__ import annotations

from collections.abc import Iterable

from scmodelforge.eval.base import Record
from scmodelforge.eval.harness import summary_table

__all__ = ["terminal_table"]


def terminal_table(records: Iterable[Record]) -> list[list[str]]:
    """Put metrics into rows and representations into columns, narrowly.

    Parameters
    ----------
    records
        Of one or several data sets and benchmarks.

    Returns
    -------
    Rows of text, the first of them headings; a row with the benchmark and the data set stands above its metrics.
    Scores have three digits and half the width of their 95 % interval; the best one of a row has a ``*``.
    """
    records = list(records)
    if not records:
        return []
    columns, *rows = summary_table(records)
    table, above = [columns], ""
    for key, *cells in rows:
        _, benchmark, dataset, metric = key.split("/", 3)
        if above != (above := f"{benchmark} ({dataset})"):
            table.append([above, *([""] * len(cells))])
        table.append([f"  {metric}", *map(_narrow, cells)])
    return table


def _narrow(cell: str) -> str:
    """Turn ``0.612* [0.500, 0.700]`` into ``0.612* ±0.100``."""
    score, bracket, interval = cell.partition(" [")
    if not bracket:
        return cell
    low, high = (float(bound) for bound in interval.rstrip("]").split(", "))
    return f"{score} ±{(high - low) / 2:.3f}"
