"""A run as its folder tells of it: read from any run, also one under way, killed, or without some of the files.

Nothing of a run is imported or executed: settings are read as plain values, without the plugins they name.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from scmodelforge._errors import DataError
from scmodelforge._json_files import read_json_object
from scmodelforge.eval.base import Record
from scmodelforge.workflows._run_files import (
    CheckpointFacts,
    checkpoint_folder,
    moment,
    read_checkpoints,
    read_lines,
    read_plain_settings,
    read_results,
)
from scmodelforge.workflows.journal import is_alive
from scmodelforge.workflows.views import KeptCells, ViewFolder

__all__ = ["CheckpointFacts", "RunRecord", "RunState"]

T = TypeVar("T")

RunState = Literal["finished", "under way", "interrupted", "failed", "killed", "unknown"]
_QUIET_SECONDS = 600.0


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run.

    Attributes
    ----------
    root
        Its folder.
    settings
        ``config.yaml`` as plain values.
    facts
        ``run.json``.
    split
        ``splits.json`` without the cells.
    metrics
        Records of ``metrics.jsonl``; figures that were not finite are ``None``.
    results
        Evaluations in training, with their steps.
    exported
        Evaluation of the exported model; empty if there is none.
    sessions
        Events of ``sessions.jsonl``.
    checkpoints
        Those there are, by step.
    cells
        The held-out cells as the model saw them.
    is_exported
        Whether there is a model folder.
    damage
        What could not be read, one line each.
    """

    root: Path
    settings: dict[str, Any]
    facts: dict[str, Any]
    split: dict[str, Any]
    metrics: list[dict[str, Any]] = field(default_factory=list)
    results: list[Record] = field(default_factory=list)
    exported: list[Record] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[CheckpointFacts] = field(default_factory=list)
    cells: KeptCells | None = None
    is_exported: bool = False
    damage: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, root: Path) -> RunRecord:
        """Read a run folder.

        Raises
        ------
        DataError
            If the folder is not a run. Damage to anything but its settings and facts is noted in ``damage``.
        """
        root = Path(root)
        missing = [name for name in ("config.yaml", "run.json") if not (root / name).is_file()]
        if missing:
            what = f"{', '.join(missing)} missing" if root.is_dir() else "no such folder"
            msg = f"{root} is not a run folder ({what}); give the folder that scmodelforge train wrote."
            raise DataError(msg)
        settings = read_plain_settings(root / "config.yaml")
        facts = read_json_object(root / "run.json", "restore it, or start a new run")
        damage: list[str] = []

        def tried(read: Callable[[], T], default: T) -> T:
            try:
                return read()
            except DataError as problem:
                damage.append(" ".join(str(problem).replace(f"{root}/", "").split()))
                return default

        nothing: dict[str, Any] = {}
        split = tried(lambda: read_json_object(root / "splits.json", "the report goes without"), nothing)
        return cls(
            root=root,
            settings=settings,
            facts=facts,
            split={name: value for name, value in split.items() if name not in ("train", "validation")},
            metrics=read_lines(root / "metrics.jsonl", damage, needs="step"),
            results=read_results(root / "results.jsonl", damage),
            exported=read_results(root / "exported_results.jsonl", damage),
            sessions=read_lines(root / "sessions.jsonl", damage, needs="event"),
            checkpoints=read_checkpoints(checkpoint_folder(root, settings)),
            cells=tried(lambda: ViewFolder(root / "views").read(), None),
            is_exported=(root / "model" / "model.safetensors").is_file(),
            damage=damage,
        )

    @property
    def is_fine_tuned(self) -> bool:
        """Whether it adapts a model, which then is what it was before its first step."""
        return self.facts.get("fine_tuned_from") is not None

    @property
    def step(self) -> int:
        """Optimiser steps done, as far as files tell."""
        return max([int(r["step"]) for r in self.metrics] + [c.step for c in self.checkpoints], default=0)

    @property
    def epoch(self) -> int:
        """Whole epochs done, as far as files tell."""
        return max(
            [int(r.get("epoch") or 0) for r in self.metrics] + [c.epoch or 0 for c in self.checkpoints], default=0
        )

    @property
    def max_epochs(self) -> int | None:
        """Epochs to train for."""
        found = self.settings.get("training", {}).get("max_epochs")
        return found if isinstance(found, int) else None

    @property
    def total_steps(self) -> int | None:
        """Steps of the whole run, or ``None`` if not even an epoch tells."""
        each = self.settings.get("training", {}).get("steps_per_epoch")
        if each is None:
            ends = [(r["step"], r["epoch"]) for r in self.metrics if "val/loss" in r and r.get("epoch")]
            each = round(ends[0][0] / ends[0][1]) if ends else None
        return None if each is None or self.max_epochs is None else each * self.max_epochs

    @property
    def state(self) -> RunState:
        """Whether the run ended, and how."""
        starts = [event for event in self.sessions if event["event"] == "start"]
        if not starts:  # made by an older version
            return "finished" if self.is_exported else "unknown"
        last = next(event for event in reversed(self.sessions) if event["event"] in ("start", "end"))
        if last["event"] == "end":
            outcome: RunState = last.get("outcome", "unknown")
            return outcome
        alive = is_alive(last)
        if alive is None:
            return "under way" if time.time() - self._last_sign() < _QUIET_SECONDS else "unknown"
        return "under way" if alive else "killed"

    @property
    def reason(self) -> str | None:
        """Why the run ended, as it said itself."""
        events = [event for event in self.sessions if event["event"] in ("start", "end")]
        return events[-1].get("why") if events else None

    @property
    def warnings(self) -> list[str]:
        """Warnings of the run, each once, in order."""
        found = [str(event.get("text", "")) for event in self.sessions if event["event"] == "warning"]
        return list(dict.fromkeys(found))

    @property
    def resumed_at(self) -> list[int]:
        """The steps after which the run was taken up again."""
        return [int(event.get("step", 0)) for event in self.sessions if event["event"] == "start"][1:]

    @property
    def seconds(self) -> float | None:
        """Time the run took, over all its sessions; of a killed one, up to its last checkpoint or metrics."""
        total, began, is_known = 0.0, None, False
        for event in self.sessions:
            when = moment(event.get("time"))
            if event["event"] == "start":
                began = when
            elif event["event"] == "end" and began is not None and when is not None:
                total, began, is_known = total + when - began, None, True
        if began is not None:
            last = time.time() if self.state == "under way" else self._last_sign()
            total, is_known = total + max(0.0, last - began), True
        return total if is_known else None

    def latest(self) -> list[Record]:
        """Return the evaluation that counts: the exported model's, else the last one in training."""
        if self.exported:
            return self.exported
        last = max((record.step or 0 for record in self.results), default=0)
        return [record for record in self.results if (record.step or 0) == last]

    def series(self, name: str) -> list[tuple[int, float]]:
        """Return the finite values of a metric by step."""
        found = [(int(r["step"]), r[name]) for r in self.metrics if isinstance(r.get(name), (int, float))]
        return [(step, float(value)) for step, value in found if math.isfinite(value)]

    def metric_names(self) -> list[str]:
        """Return the names of all metrics, in order of appearance."""
        return list(dict.fromkeys(name for record in self.metrics for name in record if "/" in name))

    def _last_sign(self) -> float:
        files = [self.root / name for name in ("metrics.jsonl", "results.jsonl", "run.json")]
        return max(path.stat().st_mtime for path in files if path.is_file())
