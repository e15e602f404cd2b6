"""Results of runs, read from their folders and from files of records, to be shown together or compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from scmodelforge._errors import DataError, nearest
from scmodelforge.eval.base import Record
from scmodelforge.eval.compare import Comparison, compare_records
from scmodelforge.eval.merging import Result
from scmodelforge.eval.records import read_records
from scmodelforge.hub.addresses import LocalFolder, parse_address

__all__ = ["Filters", "compare_results", "comparison_notes", "comparison_table", "read_results", "run_names"]

Steps = int | Literal["last", "all"]


@dataclass(frozen=True)
class Filters:
    """Which records are wanted.

    Attributes
    ----------
    benchmarks, metrics
        Names; empty for all. A metric's may end with ``*``.
    steps
        A step of training, ``last`` for the exported model or else the last step, or ``all``.
    """

    benchmarks: Sequence[str] = ()
    metrics: Sequence[str] = ()
    steps: Steps = "last"


def read_results(paths: Iterable[Path], filters: Filters | None = None) -> list[Result]:
    """Return the results of run folders and of files of records.

    Of a run's folder the exported model's results are read, where steps are asked for those of its training. Runs are
    named as their folders, the records of a file as it says, else as the file.

    Raises
    ------
    DataError
        If a path has no results, a line is not a record of this version, or nothing is left by the filters.
    """
    filters = filters or Filters()
    paths = list(paths)
    named = zip(paths, run_names(paths), strict=True)
    results = [each for path, name in named for each in _read(path, name, filters.steps)]
    found = [each for each in results if _is_wanted(each.record, filters)]
    if not found:
        raise DataError(_nothing_left(results, filters))
    return found


def compare_results(
    first: Path, second: Path, filters: Filters | None = None, *, representation: str = "model"
) -> list[Comparison]:
    """Compare two runs or files of records, metric by metric.

    Raises
    ------
    DataError
        As of :func:`read_results`; or if no score of one can be compared with one of the other.
    """
    ours, theirs = ([each.record for each in read_results([path], filters)] for path in (first, second))
    found = compare_records(ours, theirs, representation=representation)
    if not found:
        keys = [sorted({r.key for r in part if r.representation == representation}) for part in (ours, theirs)]
        there = [f"{len(part):,} metrics ({part[0]} ...)" if part else "none" for part in keys]
        msg = f"no metric of '{representation}' is in both: {first} has {there[0]}, {second} has {there[1]}."
        raise DataError(msg)
    if all(each.obstacles for each in found):
        reasons = list(dict.fromkeys(reason for each in found for reason in each.obstacles))
        more = f" (and {len(reasons) - 3} more reasons)" if len(reasons) > 3 else ""
        msg = f"no score of {first} can be compared with one of {second}: {'; '.join(reasons[:3])}{more}."
        raise DataError(msg)
    return found


def run_names(paths: Sequence[str | Path]) -> list[str]:
    """Return what runs are called: their folders' names, or the files', or the end of the address of a model.

    Those of the same name are called what was given.
    """
    names = [_run_name(path) for path in paths]
    return [name if names.count(name) == 1 else str(path) for path, name in zip(paths, names, strict=True)]


def _run_name(given: str | Path) -> str:
    where = parse_address(given)
    if not isinstance(where, LocalFolder):
        return str(given).strip().rstrip("/").rpartition("/")[2]
    return where.path.resolve().name if where.path.is_dir() else where.path.stem


def comparison_table(found: Iterable[Comparison], names: tuple[str, str], *, details: bool = False) -> list[list[str]]:
    """Return headings and rows of the scores that can be compared."""
    rows = [["metric", *names, "difference", "95 % interval", "how", "better"]]
    words = {"first": names[0], "second": names[1], "undecided": "undecided"}
    for each in found:
        if each.difference is None or (each.first.is_detail and not details):
            continue
        bounds = [_interval(each.interval)] if each.interval else []
        bounds += [f"{_interval(each.group_interval)} over {each.first.group_key}"] if each.group_interval else []
        arrow = "" if each.first.higher_is_better else " (lower is better)"
        scores = [f"{record.value:.4f}" for record in (each.first, each.second)]
        rows.append(
            [each.key + arrow, *scores, f"{each.difference:+.4f}", "; ".join(bounds) or "-", each.method,
             words[each.better]]
        )  # fmt: skip
    return rows


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
    return lines


def _read(path: Path, name: str, steps: Steps) -> list[Result]:
    if path.is_dir():
        exported, in_training = path / "exported_results.jsonl", path / "results.jsonl"
        file = exported if steps == "last" and exported.is_file() else in_training
        if not file.is_file():
            msg = (
                f"{path} has no results ({file.name} is not there); give a run that was evaluated, or a file that "
                "'scmodelforge evaluate --out' wrote."
            )
            raise DataError(msg)
    else:
        file = path
    records = read_records(file)
    results = [Result(run or name, record) for run, record in zip(_run_names(file), records, strict=True)]
    if steps == "last":
        return _latest(_apart(results))
    if steps == "all":
        return [
            each if each.record.step is None else replace(each, run=f"{each.run}@{each.record.step}")
            for each in results
        ]
    there = sorted({each.record.step for each in results if each.record.step is not None})
    if steps not in there:
        listed = ", ".join(map(str, there)) or "none"
        msg = f"{file} has no results of step {steps:,}; it has those of steps: {listed}."
        raise DataError(msg)
    return [each for each in results if each.record.step == steps]


def _run_names(file: Path) -> list[str | None]:
    """Return the run that each line of a file of records says it is of."""
    return [json.loads(line).get("run") for line in file.read_text(encoding="utf-8").splitlines()]


def _apart(results: list[Result]) -> list[Result]:
    """Name the models of a file that has several and does not say of which runs they are."""
    models: dict[str, set[str]] = {}
    for each in results:
        models.setdefault(each.run, set()).add(_model(each.record))
    return [
        replace(each, run=f"{each.run}:{_model(each.record)}") if len(models[each.run]) > 1 else each
        for each in results
    ]


def _model(record: Record) -> str:
    """Return the model of a record, at whatever step."""
    return (record.model_id or "unknown").partition("@")[0][:12]


def _latest(results: Sequence[Result]) -> list[Result]:
    last: dict[str, int] = {}
    for each in results:
        last[each.run] = max(last.get(each.run, 0), each.record.step or 0)
    return [each for each in results if (each.record.step or 0) == last[each.run]]


def _is_wanted(record: Record, filters: Filters) -> bool:
    def has(names: Sequence[str], own: str) -> bool:
        return not names or any(own.startswith(n[:-1]) if n.endswith("*") else own == n for n in names)

    return has(filters.benchmarks, record.benchmark) and has(filters.metrics, record.metric)


def _nothing_left(results: Sequence[Result], filters: Filters) -> str:
    if not results:
        return "there are no records in what was given; evaluate a model first: scmodelforge evaluate RUN"
    asked = [*filters.benchmarks, *filters.metrics]
    there = list(dict.fromkeys(
        [r.record.benchmark for r in results] if filters.benchmarks else [r.record.metric for r in results]
    ))  # fmt: skip
    return (
        f"no record is of {', '.join(repr(name) for name in asked)}.{nearest(asked[0], there)} There are: "
        f"{', '.join(there[:20])}{' ...' if len(there) > 20 else ''}."
    )


def _interval(bounds: list[float]) -> str:
    return f"[{bounds[0]:+.4f}, {bounds[1]:+.4f}]"
