"""Two runs compared: the scores that can be, what is to be said of them, and what to do where none can."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scmodelforge import _console
from scmodelforge._errors import DataError
from scmodelforge.eval.base import Record
from scmodelforge.eval.compare import Comparison, compare_records
from scmodelforge.eval.merging import own_baselines
from scmodelforge.eval.standing import MODEL
from scmodelforge.eval.tables import Table, broken
from scmodelforge.workflows.results import Filters, has_results, read_results

__all__ = ["Compared", "compare_results", "comparison_legend", "comparison_notes", "comparison_tables"]

_SHORTEST_METRIC = 16
_LACK_OF_CELLS = (
    "different data",
    "different split",
    "the data of",
    "the split of",
    "different number of cells",
    "different trained_on",
)


@dataclass(frozen=True)
class Compared:
    """Two runs, A and B, and what came of comparing them, metric by metric."""

    names: tuple[str, str]
    found: list[Comparison]

    def title(self, *, details: bool) -> str:
        """Return how many metrics can be compared, and how many of them are not shown."""
        known = [each for each in self.found if each.difference is not None]
        left = len(known) - len(_shown(known, details=details))
        more = f"; {left:,} of these are left out here, --details shows them" if left else ""
        return (
            f"{len(known):,} of {len(self.found):,} metrics can be compared{more}\n"
            f"A: {self.names[0]}\nB: {self.names[1]}"
        )


def compare_results(
    first: Path, second: Path | None = None, filters: Filters | None = None, *, representation: str = MODEL
) -> Compared:
    """Compare two runs or files of records, metric by metric.

    Parameters
    ----------
    first, second
        Run folders or files of records; without ``second`` the file ``first`` has the records of two runs.
    filters
        Which records.
    representation
        What is compared: the model, or a baseline.

    Raises
    ------
    DataError
        As of :func:`~scmodelforge.workflows.results.read_results`; if one file is not of two runs; or if no score of
        one can be compared with one of the other. The message then says what to do.
    """
    names, ours, theirs = _of_one_file(first, filters) if second is None else _of_two(first, second, filters)
    paths = (first,) if second is None else (first, second)
    found = compare_records(ours, theirs, representation=representation)
    if not found:
        keys = [sorted({r.key for r in part if r.representation == representation}) for part in (ours, theirs)]
        there = [f"{len(part):,} metrics ({part[0]} ...)" if part else "none" for part in keys]
        msg = (
            f"no metric of '{representation}' is in both: {names[0]} has {there[0]}, {names[1]} has {there[1]}; score "
            f"both with the same benchmarks: {_advice(paths, [*ours, *theirs])}."
        )
        raise DataError(msg)
    if all(each.obstacles for each in found):
        reasons = list(dict.fromkeys(reason for each in found for reason in each.obstacles))
        more = f" (and {len(reasons) - 3} more reasons)" if len(reasons) > 3 else ""
        needs_cells = any(reason.startswith(_LACK_OF_CELLS) for reason in reasons)
        how = "on the same cells, which neither was trained on" if needs_cells else "with the same settings"
        advice = f"; score both {how}: {_advice(paths, [*ours, *theirs], on_data=needs_cells)}"
        if all(reason.startswith("not scored") for reason in reasons):
            advice = ""  # the reason says what it takes
        msg = f"no score of {names[0]} can be compared with one of {names[1]}: {'; '.join(reasons[:3])}{more}{advice}."
        raise DataError(msg)
    return Compared(names, found)


def comparison_tables(compared: Compared, *, details: bool = False) -> list[Table]:
    """Return a table of the scores that can be compared for each benchmark and data set."""
    blocks: dict[str, list[list[str]]] = {}
    known = [each for each in compared.found if each.difference is not None]
    for each in _shown(known, details=details):
        bounds = [_interval(each.interval)] if each.interval else []
        bounds += [f"{_interval(each.group_interval)} {each.first.group_key}"] if each.group_interval else []
        scores = [f"{record.value:.4f}" for record in (each.first, each.second)]
        better = {"first": "A", "second": "B"}.get(each.better, each.better)
        metric = f"{each.first.metric}{'' if each.first.higher_is_better else ' ↓'}"
        title = f"{each.first.benchmark} ({each.first.dataset})"
        row = [metric, *scores, f"{each.difference:+.4f}", "\n".join(bounds) or "-", better]
        blocks.setdefault(title, []).append(row)
    headings = ["metric", "A", "B", "B - A", "95 % interval of B - A", "better"]
    return [Table(title, headings, _narrowed(headings, rows)) for title, rows in blocks.items()]


def comparison_notes(found: Sequence[Comparison]) -> list[str]:
    """Return what cannot be compared and why, what else differs, and how intervals are to be read."""
    notes: dict[str, list[str]] = {}
    for each in found:
        if each.obstacles:
            notes.setdefault(f"not comparable: {'; '.join(each.obstacles)}", []).append(each.key)
        for text in each.reservations:
            notes.setdefault(f"to bear in mind: {text}", []).append(each.key)
    lines = [
        f"{text}: {keys[0] if len(keys) == 1 else f'{len(keys)} metrics ({keys[0]} ...)'}"
        for text, keys in notes.items()
    ]
    if any(each.method == "unpaired" for each in found):
        lines.append(
            "unpaired intervals are made of those of the two scores, as if these were independent; records have no "
            "scores of single cells, and an interval over the same draws of cells would mostly be narrower"
        )
    return [*lines, *own_baselines(_other_baselines(found))]


def comparison_legend(compared: Compared, *, details: bool = False) -> list[str]:
    """Return what the signs of the tables mean, and how their intervals were made."""
    known = _shown([each for each in compared.found if each.difference is not None], details=details)
    keys = sorted({str(each.first.group_key) for each in known if each.group_interval})
    paired = sorted({each.method for each in known if each.method.startswith("paired")})
    lines = [
        (any(not each.first.higher_is_better for each in known), "↓ lower is better"),
        (
            bool(keys),
            f"an interval with {' or '.join(map(repr, keys))} behind it: whole groups of cells are drawn again",
        ),
        (True, "undecided: 0 lies in an interval, or there is none"),
        (bool(paired), f"intervals {'; '.join(paired)}: the same ones are drawn for A and B"),
        (any(each.method == "unpaired" for each in known), "intervals unpaired: made of those of the two scores"),
    ]
    return [text for is_there, text in lines if is_there]


def _of_two(first: Path, second: Path, filters: Filters | None) -> tuple[tuple[str, str], list[Record], list[Record]]:
    lacking = [str(path) for path in (first, second) if path.is_dir() and not has_results(path)]
    if lacking:
        verb = "has" if len(lacking) == 1 else "have"
        msg = f"{' and '.join(lacking)} {verb} no results; score both: {_advice((first, second), [])}."
        raise DataError(msg)
    ours, theirs = ([each.record for each in read_results([path], filters)] for path in (first, second))
    return (str(first), str(second)), ours, theirs


def _of_one_file(path: Path, filters: Filters | None) -> tuple[tuple[str, str], list[Record], list[Record]]:
    parts: dict[str, list[Record]] = {}
    for each in read_results([path], filters):
        parts.setdefault(each.run, []).append(each.record)
    if len(parts) != 2:
        msg = (
            f"{path} has the records of {len(parts)} run{'' if len(parts) == 1 else 's'} ({', '.join(parts)}), and two "
            "are compared; give A and B, or a file of two: scmodelforge evaluate A B --out both.jsonl."
        )
        raise DataError(msg)
    (first, ours), (second, theirs) = parts.items()
    return (first, second), ours, theirs


def _advice(paths: Sequence[Path], records: Sequence[Record], *, on_data: bool = False) -> str:
    """Return the commands by which two models get scores that can be compared."""
    if any("scored_conditions" in record.params for record in records):
        return (
            "scmodelforge evaluate --predictions A.h5ad --data REAL.h5ad --train-conditions SPLIT.json --out a.jsonl, "
            "the same for B with the same data, split and options, and then: scmodelforge results compare a.jsonl "
            "b.jsonl"
        )
    are_runs = len(paths) == 2 and all((path / "run.json").is_file() for path in paths)
    models = " ".join(shlex.quote(str(path)) for path in paths) if are_runs else "RUN_A RUN_B"
    data = " --data CELLS.h5ad" if on_data else ""
    return f"scmodelforge evaluate {models}{data} --out both.jsonl, and then: scmodelforge results compare both.jsonl"


def _shown(known: Sequence[Comparison], *, details: bool) -> list[Comparison]:
    """Return what tables show: all, or what short tables have, if there is any of that."""
    short = [each for each in known if not each.first.is_detail]
    return list(known) if details or not short else short


def _narrowed(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Break the names of metrics so that the table is no wider than a terminal."""
    widths = [
        max(len(line) for cell in column for line in cell.split("\n")) for column in zip(headings, *rows, strict=True)
    ]
    longest = max(_console.width() - 2 - sum(width + 3 for width in widths[1:]), _SHORTEST_METRIC)
    return [[broken(row[0], longest), *row[1:]] for row in rows]


def _other_baselines(found: Iterable[Comparison]) -> list[str]:
    """Return the baselines made of counts that are not the same beside both models, on the same cells."""
    names = []
    for each in found:
        if each.difference is None:
            continue
        first, second = each.first.baselines, each.second.baselines
        names += [name for name in first if name in second and first[name] != second[name] and name != "untrained"]
        names += [each.first.representation] if each.difference and each.first.representation != MODEL else []
    return names


def _interval(bounds: list[float]) -> str:
    return f"[{bounds[0]:+.4f}, {bounds[1]:+.4f}]"
