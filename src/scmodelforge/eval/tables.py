"""Results as tables that fit a terminal: one for each benchmark and data set, wrapped where there are many columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import NamedTuple

from scmodelforge import _console
from scmodelforge.eval.base import Record
from scmodelforge.eval.genes.nearest_tables import nearest_tables
from scmodelforge.eval.standing import best_names, is_trained_on, of_fewer, out_of_competition, values_by_name
from scmodelforge.eval.words import CEILING, Marks, about_marks

__all__ = [
    "Table",
    "Tables",
    "about_cells",
    "about_details",
    "about_intervals",
    "about_samples",
    "broken",
    "cell_table",
    "terminal_tables",
]

_BETWEEN = 3  # columns of a terminal between two columns of a table
_EDGES = 2
_LONGEST_METRIC = 40
_LONGEST_HEADING = 18


class Table(NamedTuple):
    """Headings and rows under a title; the first column is text, and others are figures unless ``is_text``."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    is_text: bool = False


class Tables(NamedTuple):
    """Tables, and what the signs in them mean, a line each."""

    tables: list[Table]
    legend: list[str]


def terminal_tables(records: Iterable[Record], *, details: bool = False, width: int | None = None) -> Tables:
    """Put metrics into rows and representations into columns, narrowly.

    Parameters
    ----------
    records
        Of one or several data sets and benchmarks.
    details
        Also list the metrics that short tables leave out, and the genes that are nearest to those asked for.
    width
        Columns of the terminal; ``None`` asks for them, at most 100. What does not fit beside the first column of
        scores stands in a further table, with that column again.

    Returns
    -------
    A table for each benchmark and data set, in the order of the records, and the meaning of the signs. Scores have
    three digits and half the width of their 95 % interval, behind a slash that over groups of cells; the noise ceiling
    is the last column where it is known. Which scores have a star: :func:`~scmodelforge.eval.standing.best_names`.
    """
    records = list(records)
    width = _console.width() if width is None else width
    tables, marks = [], Marks()
    for (benchmark, dataset), rows in _blocks(record for record in records if details or not record.is_detail):
        tables += _wrapped(cell_table(rows, marks), f"{benchmark} ({dataset})", width)
    if details:
        for record in records:
            tables += [Table(title, columns, rows, is_text=True) for title, columns, rows in nearest_tables(record)]
    marks.groups = sorted({each.group_key for each in records if each.group_interval and each.group_key})
    return Tables(tables, about_marks(marks))


def cell_table(rows: Mapping[str, Mapping[str, Record]], marks: Marks) -> list[list[str]]:
    """Return headings and a row for each metric of a benchmark; ``marks`` gets the signs that are used.

    Parameters
    ----------
    rows
        Records by metric and representation.
    marks
        Signs to explain.
    """
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    names += dict.fromkeys(name for row in rows.values() for name in values_by_name(row) if name not in names)
    ceilings = {metric: _ceiling(row) for metric, row in rows.items()}
    has_ceiling = any(ceilings.values())
    table = [["metric", *(_heading(name, marks) for name in names), *([CEILING] if has_ceiling else [])]]
    for metric, row in rows.items():
        values, best = values_by_name(row), best_names(row)
        cells = [_cell(row, name, values.get(name), marks, is_best=name in best) for name in names]
        is_low = not next(iter(row.values())).higher_is_better
        marks.low |= is_low
        table.append([f"{metric}{' ↓' if is_low else ''}", *cells, *([ceilings[metric] or "-"] if has_ceiling else [])])
    marks.ceiling |= has_ceiling
    return table


def about_intervals(records: Iterable[Record]) -> str:
    """Return what stands behind the scores of :func:`terminal_tables`, in short."""
    has_any = any(record.interval or record.group_interval for record in records)
    return "± half of the 95 % bootstrap interval" if has_any else "no intervals are known"


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


def about_details(records: Iterable[Record]) -> list[str]:
    """Return a line on what short tables leave out, if they leave out anything."""
    left = [record for record in records if record.is_detail and record.value is not None]
    if not left:
        return []
    num = len({record.key for record in left})
    genes = " and the nearest genes" if any(nearest_tables(record) for record in left) else ""
    metrics = f"{num:,} more metric{'' if num == 1 else 's'}"
    verb = "is" if num == 1 and not genes else "are"
    return [
        f"{metrics}{genes} {verb} left out here: scmodelforge results show PATH --details (a run, or what --out wrote)"
    ]


def broken(text: str, longest: int) -> str:
    """Break a long name into lines no longer than that, behind signs where it has any."""
    lines = [""]
    for word in re.findall(r"[^_:/\-\s]*[_:/\-\s]?", text):
        pieces = [word[i : i + longest] for i in range(0, len(word), longest)]
        for piece in pieces:
            if len(lines[-1]) + len(piece) > longest:
                lines.append("")
            lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _blocks(records: Iterable[Record]) -> Iterable[tuple[tuple[str, str], dict[str, dict[str, Record]]]]:
    """Return the records of each benchmark and data set, by metric and representation."""
    found: dict[tuple[str, str], dict[str, dict[str, Record]]] = {}
    for record in records:
        block = found.setdefault((record.benchmark, record.dataset), {})
        block.setdefault(record.metric, {})[record.representation] = record
    return found.items()


def _heading(name: str, marks: Marks) -> str:
    why = out_of_competition(name)
    if why is None:
        return name
    marks.out.setdefault(why, {})[name.rpartition(":")[2]] = None
    return f"{name}†"


def _cell(row: Mapping[str, Record], name: str, value: float | None, marks: Marks, *, is_best: bool) -> str:
    record = row.get(name)
    if value is None:
        return "-" if record is None else "skipped"
    is_trained, of = is_trained_on(row, name), of_fewer(row, name)
    marks.best |= is_best
    marks.trained |= is_trained
    text = f"{value:.3f}{'*' if is_best else '‡' if is_trained else ''}"
    bounds = [] if record is None else [record.interval, record.group_interval]
    halves = ["-" if each is None else f"{(each[1] - each[0]) / 2:.3f}" for each in bounds]
    while halves and halves[-1] == "-":
        halves.pop()
    text += f" ±{'/'.join(halves)}" if halves else ""
    if record is not None and of is not None:
        marks.fewer = True
        text += f" ({record.n:,} of {of:,})"
    return text


def _ceiling(row: Mapping[str, Record]) -> str:
    """Return the noise ceiling of a metric; of runs with other draws from the lowest to the highest."""
    known = [record.noise_ceiling for record in row.values() if record.noise_ceiling is not None]
    found = sorted({f"{value:.3f}" for value in (min(known), max(known))}, key=float) if known else []
    return " to ".join(found)


def _wrapped(table: Sequence[Sequence[str]], title: str, width: int) -> list[Table]:
    """Return a table as several that are no wider, the metric and the first column of scores in each."""
    headings = [broken(each, _LONGEST_HEADING) for each in table[0]]
    rows = [[broken(row[0], _LONGEST_METRIC), *row[1:]] for row in table[1:]]
    widths = [
        max(len(line) for cell in column for line in cell.split("\n")) for column in zip(headings, *rows, strict=True)
    ]
    kept = [0, 1]
    parts, room = [list(kept)], width - _EDGES - widths[0] - _BETWEEN - widths[1]
    left = room
    for place in range(2, len(headings)):
        if widths[place] + _BETWEEN > left and len(parts[-1]) > len(kept):
            parts.append(list(kept))
            left = room
        parts[-1].append(place)
        left -= widths[place] + _BETWEEN
    titles = [title if len(parts) == 1 else f"{title}, {number} of {len(parts)}" for number in range(1, len(parts) + 1)]
    return [
        Table("\n".join(wrap(name, width)), [headings[i] for i in part], [[row[i] for i in part] for row in rows])
        for name, part in zip(titles, parts, strict=True)
    ]
