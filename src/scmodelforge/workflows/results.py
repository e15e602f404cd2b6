"""Results of runs, read from their folders and from files of records."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from scmodelforge._errors import DataError, nearest
from scmodelforge.eval.base import Record
from scmodelforge.eval.merging import Result
from scmodelforge.eval.records import read_records
from scmodelforge.hub.addresses import LocalFolder, parse_address

__all__ = ["Filters", "has_results", "read_results", "run_names"]

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


def has_results(path: Path) -> bool:
    """Tell whether a run's folder has results, of its training or of the exported model."""
    return any((path / name).is_file() for name in ("exported_results.jsonl", "results.jsonl"))


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


def _read(path: Path, name: str, steps: Steps) -> list[Result]:
    if path.is_dir():
        exported, in_training = path / "exported_results.jsonl", path / "results.jsonl"
        file = exported if steps == "last" and exported.is_file() else in_training
        if not file.is_file():
            msg = (
                f"{path} has no results ({file.name} is not there); give a run that was evaluated, or a file of "
                f"records: scmodelforge evaluate {shlex.quote(str(path))} --out results.jsonl."
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
