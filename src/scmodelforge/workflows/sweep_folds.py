"""The folds of a sweep: of the cells, and of what a task holds out beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import RunConfig
from scmodelforge.data.split_files import write_split
from scmodelforge.finetuning.base import Task
from scmodelforge.finetuning.held_out import TaskFolds
from scmodelforge.workflows.base_model import load_task
from scmodelforge.workflows.folds import make_folds
from scmodelforge.workflows.prepare import open_source

__all__ = ["SweepFolds", "chosen_on", "open_folds"]

_OF_CELLS = "cells that are scored as well: its scores are the best of several"


@dataclass
class SweepFolds:
    """What the runs of a sweep hold out.

    Attributes
    ----------
    config, task, number
        Settings of a run, its task and the number of folds.
    source
        The cells.
    """

    config: RunConfig
    task: Task | None
    number: int
    source: Any

    @property
    def identity(self) -> dict[str, Any]:
        """What the sweep is of: the base model and the content of the data."""
        own = self.config.finetune
        return {
            "base_model_id": None if own is None else own.base_model_id,
            "data": [entry["sha256"] for entry in self.source.fingerprint()],
        }

    def write(self, folder: Path) -> tuple[list[dict[str, Any]], TaskFolds | None]:
        """Write the folds into a folder; return what each changes in the settings, and the task's own folds."""
        folder.mkdir(parents=True, exist_ok=True)
        own = self._of_task(folder)
        files = [(folder / f"fold_{number + 1}.json").absolute() for number in range(self.number)]
        if not all(file.is_file() for file in files):
            for file, split in zip(files, make_folds(self.source, self.config.data, self.number), strict=True):
                write_split(file, split, self.source, expression=self.config.data.filter)
        more = [{} for _ in files] if own is None else own.parts
        return [{"data.split": {"file": str(file)}, **each} for file, each in zip(files, more, strict=True)], own

    def check(self, own: TaskFolds | None, swept: list[str]) -> None:
        """Refuse to choose by what the task scores, or to sweep what its folds set.

        Raises
        ------
        ConfigError
            If that is asked for.
        """
        if own is None:
            return
        metric = self.config.output.best_metric
        if not metric.startswith("val/"):
            msg = (
                f"output.best_metric is '{metric}': a sweep would choose the setting by the {own.held_out} that it "
                "scores; set it to one of the validation, such as val/loss."
            )
            raise ConfigError(msg)
        for path in swept:
            if path in {f"finetune.{name}" for name in own.own}:
                msg = f"--sweep {path}: which {own.held_out} are held out is the sweep's own; sweep another setting."
                raise ConfigError(msg)

    def _of_task(self, folder: Path) -> TaskFolds | None:
        if self.task is None:
            return None
        return self.task.folds(self.config, self.source, number=self.number, folder=folder)


def open_folds(config: RunConfig, number: int) -> SweepFolds:
    """Load the base model and open the cells of a sweep.

    Raises
    ------
    ConfigError, DataError
        If either cannot be had.
    """
    task = load_task(config)
    return SweepFolds(config, task, number, open_source(config.data, None if task is None else task.base.vocab))


def chosen_on(own: TaskFolds | None) -> str:
    """Return in words what the choice between settings is made on."""
    return _OF_CELLS if own is None else own.chosen_on
