"""The tasks of cz-benchmarks on the held-out cells, beside its own baselines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.eval.base import BenchmarkInputs, Record, register_benchmark
from scmodelforge.eval.biology import labelled
from scmodelforge.eval.cells import Cells
from scmodelforge.eval.cz_benchmarks import (
    METRICS,
    MIN_CLASS_SIZE,
    SEED,
    CzTask,
    check_installed,
    library,
    run_task,
    task_baseline,
)

__all__ = ["BASELINE", "CzBenchmarks", "CzBenchmarksConfig"]

_NAME = "cz_benchmarks"
_BESIDE = "pca"

#: Representation of the records of cz-benchmarks' own baselines.
BASELINE = "cz_benchmarks"


class CzBenchmarksConfig(BenchmarkConfig):
    """Settings of the benchmark."""

    name: str = _NAME
    tasks: list[CzTask] = Field(list(METRICS), min_length=1)
    """Tasks to run, each with the settings and the seed of cz-benchmarks."""

    @field_validator("tasks")
    @classmethod
    def _are_listed_once(cls, names: list[str]) -> list[str]:
        for name in names:
            if names.count(name) > 1:
                msg = f"'{name}' is listed twice; list each task once"
                raise ValueError(msg)
        return names


@dataclass(frozen=True)
class _Scored:
    """The cells of a task: those with a label, and with a batch where it matters."""

    cells: Cells
    rows: np.ndarray
    reason: str | None


@register_benchmark(_NAME)
class CzBenchmarks:
    """Tasks of cz-benchmarks on the held-out cells; nothing is fitted on training cells.

    Where the baseline ``pca`` is scored, the baselines that cz-benchmarks itself has are scored as well.
    """

    config_class: ClassVar[type[BenchmarkConfig]] = CzBenchmarksConfig
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    columns: ClassVar[frozenset[str]] = frozenset({"label"})

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = CzBenchmarksConfig.model_validate(config.model_dump())
        check_installed()

    def run(self, inputs: BenchmarkInputs) -> list[Record]:
        """Return one record for each metric of the tasks."""
        cells, _, _ = labelled(_NAME, inputs)
        rows = inputs.heldout.order()
        assert inputs.heldout.labels is not None
        rows = rows[inputs.heldout.labels[rows] != ""]
        num_without = len(inputs.heldout) - len(rows)
        everyone = _Scored(cells, rows, f"{num_without:,} cells without a label" if num_without else None)
        records = [record for task in self.config.tasks for record in _records(inputs, task, everyone)]
        if inputs.representation == _BESIDE and inputs.counts is not None:
            counts, theirs = inputs.counts(), replace(inputs, representation=BASELINE)
            for task in self.config.tasks:
                records += _records(theirs, task, everyone, counts=counts)
        return records


def _records(inputs: BenchmarkInputs, task: CzTask, everyone: _Scored, *, counts: Any = None) -> list[Record]:
    """Return the records of one task, of the baseline made of the counts if these are given."""
    scored = _of_task(task, everyone)
    reason = _obstacle(task, scored.cells, is_baseline=counts is not None)
    found: dict[str, float] = {}
    if reason is None:
        assert scored.cells.labels is not None
        vectors = scored.cells.embeddings if counts is None else task_baseline(task, counts[scored.rows])
        found = run_task(task, vectors, scored.cells.labels, scored.cells.batches)
    return [_record(inputs, task, metric, scored, found.get(metric, np.nan), reason) for metric in METRICS[task]]


def _record(
    inputs: BenchmarkInputs, task: CzTask, metric: str, scored: _Scored, value: float, reason: str | None
) -> Record:
    is_given = bool(np.isfinite(value))
    number = len(scored.cells) if is_given else 0
    return inputs.record(
        _NAME,
        metric,
        value if is_given else None,
        n=number,
        n_skipped=len(inputs.heldout) - number,
        skipped_reason=scored.reason if is_given else reason or "cz-benchmarks finds it not defined",
        params={"task": task, "seed": SEED},
        library=library(),
        is_detail=metric.startswith("czb_mean_fold") and not metric.endswith("_mean"),
    )


def _of_task(task: CzTask, everyone: _Scored) -> _Scored:
    """Leave out the cells that the task has no use for, and say why."""
    cells, reasons = everyone.cells, [everyone.reason] if everyone.reason else []
    is_used = np.ones(len(cells), dtype=bool)
    if task == "batch_integration" and cells.batches is not None:
        is_used = cells.batches != ""
        reasons += [] if is_used.all() else [f"{int((~is_used).sum()):,} cells without a batch"]
    if task == "label_prediction":
        is_used = _sizes(cells)[1] >= MIN_CLASS_SIZE
        left = f"{int((~is_used).sum()):,} cells of labels with fewer than {MIN_CLASS_SIZE} cells"
        reasons += [] if is_used.all() else [left]
    return _Scored(cells.select(is_used), everyone.rows[is_used], "; ".join(reasons) or None)


def _obstacle(task: CzTask, cells: Cells, *, is_baseline: bool) -> str | None:
    """Return why a task cannot be run on these cells, if so."""
    is_of_batches = task == "batch_integration"
    if is_of_batches and cells.batches is None:
        return "there is no batch column; set data.batch_column (or 'batch' of the benchmark)"
    if is_of_batches and cells.batches is not None and len(np.unique(cells.batches)) < 2:
        return f"the labelled held-out cells are of {len(np.unique(cells.batches))} batch; two are needed"
    num_labels = len(_sizes(cells)[0])
    if num_labels < 2:
        enough = f" with {MIN_CLASS_SIZE} cells or more" if task == "label_prediction" else ""
        return (
            f"the held-out cells have {num_labels} label{'' if num_labels == 1 else 's'}{enough}; two labels are needed"
        )
    if num_labels == len(cells):
        return "every held-out cell has a label of its own"
    if cells.is_constant and not is_baseline:
        return "all held-out cells have the same embedding"
    return None


def _sizes(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels, and the number of cells with the label of each cell."""
    assert cells.labels is not None
    names, codes, sizes = np.unique(cells.labels, return_inverse=True, return_counts=True)
    return names, sizes[codes]
