"""Results as a table that fits a terminal: one block for each benchmark, one column for each representation."""

from __future__ import annotations

import re
from collections.abc import Iterable

from scmodelforge.eval.base import Record
from scmodelforge.eval.harness import summary_table

__all__ = ["about_cells", "about_intervals", "about_samples", "terminal_table"]

_FEWER = re.compile(r" \([\d,]+ of [\d,]+\)$")
_INTERVAL = re.compile(r"\[(-?[\d.]+), (-?[\d.]+)\]")


def terminal_table(records: Iterable[Record], *, details: bool = False) -> list[list[str]]:
    """Put metrics into rows and representations into columns, narrowly.

    Parameters
    ----------
    records
        Of one or several data sets and benchmarks.
    details
        Also list the metrics that records call details.

    Returns
    -------
    Rows of text, the first of them headings; a row with the benchmark and the data set stands above its metrics.
    Scores have three digits and half the width of their 95 % interval, behind a slash that over groups of cells; the
    best one of a row has a ``*``. One of fewer things than the others of its row says of how many, and has none.
    """
    records = list(records)
    if not records:
        return []
    columns, *rows = summary_table(records, details=details)
    table, above = [columns], ""
    for key, *cells in rows:
        _, benchmark, dataset, metric = key.split("/", 3)
        if above != (above := f"{benchmark} ({dataset})"):
            table.append([above, *([""] * len(cells))])
        table.append([f"  {metric}", *map(_narrow, cells)])
    return table


def about_intervals(records: Iterable[Record]) -> str:
    """Return what the intervals of :func:`terminal_table` are."""
    groups = sorted({record.group_key for record in records if record.group_interval and record.group_key})
    over = f", over cells / over {' or '.join(groups)}" if groups else ""
    return f"± half of the 95 % bootstrap interval{over}"


def about_cells(num_scored: int, num_there: int) -> str:
    """Return in words how many held-out cells are scored."""
    return f"{num_scored:,}{'' if num_scored == num_there else f' of {num_there:,}'} held-out cells"


def about_samples(records: Iterable[Record]) -> list[str]:
    """Return a line for each data set of which not all held-out cells are scored."""
    lines = []
    for record in records:
        if record.subsample is None:
            continue
        size, seed = record.params.get("subsample_size"), record.params.get("subsample_seed")
        how = "by label" if seed is None else f"by label and seed {seed}"
        what = (
            f"a sample of {record.subsample:,} held-out cells is"
            if size is None
            else (f"{about_cells(size, record.subsample)} are")
        )
        lines.append(f"{record.dataset}: {what} scored, chosen {how}")
    return list(dict.fromkeys(lines))


def _narrow(cell: str) -> str:
    """Turn ``0.612* [0.500, 0.700] donor [0.400, 0.800]`` into ``0.612* ±0.100/0.200``."""
    intervals, fewer = _INTERVAL.findall(cell), _FEWER.search(cell)
    if not intervals:
        return cell
    halves = [f"{(float(high) - float(low)) / 2:.3f}" for low, high in intervals]
    has_cells = cell.partition(" ")[2].startswith("[")
    return f"{cell.partition(' ')[0]} ±{'/'.join(halves if has_cells else ['-', *halves])}{fewer[0] if fewer else ''}"
