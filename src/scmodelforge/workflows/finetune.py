"""``scmodelforge finetune``: the settings of a run made of a recipe and some options, and trained like any other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import TASKS
from scmodelforge._wording import in_words_of
from scmodelforge.config.aliases import drop_other_spellings
from scmodelforge.config.faults import Faults
from scmodelforge.config.files import read_settings, set_values
from scmodelforge.config.given import GivenSettings
from scmodelforge.config.load import load_plugins
from scmodelforge.finetuning.recipes import recipe_of
from scmodelforge.workflows.pretrain import start_training
from scmodelforge.workflows.training_run import TrainResult

__all__ = ["FinetuneOptions", "finetune", "finetune_settings", "in_words_of_options"]

#: The setting of each option.
_SETTINGS = {
    "base_model": "finetune.base_model",
    "data": "data.paths",
    "task": "finetune.task",
    "label": "data.label_column",
    "batch": "data.batch_column",
    "benchmarks": "eval.benchmarks",
    "adaptation": "finetune.adaptation",
    "epochs": "training.max_epochs",
    "lr": "training.optimizer.lr",
    "out": "output.run_dir",
}
_NAMES = {"benchmarks": "--eval"}
_WORDS = {setting: _NAMES.get(name, f"--{name.replace('_', '-')}") for name, setting in _SETTINGS.items()}


@dataclass(frozen=True)
class FinetuneOptions:
    """What fine-tuning is asked for; ``None`` leaves the recipe's setting, or its default.

    Attributes
    ----------
    base_model
        Address of the model that is adapted.
    data
        Files of cells.
    task
        Registered task.
    label, batch
        obs columns with what is learned, and with the technical batch.
    benchmarks
        What is run on the held-out cells.
    adaptation
        What is trained of the base model.
    epochs, lr
        Epochs, and peak learning rate.
    out
        Run folder; by default ``runs/TASK``.
    """

    base_model: str | None = None
    data: Sequence[str] | None = None
    task: str | None = None
    label: str | None = None
    batch: str | None = None
    benchmarks: Sequence[str] | None = None
    adaptation: str | None = None
    epochs: int | None = None
    lr: float | None = None
    out: str | None = None


def finetune(
    options: FinetuneOptions, *, recipe: Path | None = None, overrides: Sequence[str] = (), force: bool = False
) -> TrainResult | None:
    """Adapt a model to data.

    Parameters
    ----------
    options
        What is asked for.
    recipe
        Settings file; ``None`` is the one of the task.
    overrides
        Changes of settings, ``a.b=c``, which come last.
    force
        Replace an existing run folder.

    Returns
    -------
    The result, or ``None`` on devices other than the first.

    Raises
    ------
    ConfigError, DataError
        For everything a user can get wrong, before the run folder is made.
    Interrupted
        When the run was asked to stop; its state is saved.
    """
    with in_words_of_options():
        return start_training(finetune_settings(options, recipe=recipe), overrides, force=force)


def in_words_of_options() -> AbstractContextManager[None]:
    """Name options where an error names settings."""
    return in_words_of(_WORDS)


def finetune_settings(options: FinetuneOptions, *, recipe: Path | None = None) -> GivenSettings:
    """Return the settings of a run: those of a recipe with the options put in.

    Parameters
    ----------
    options, recipe
        As of :func:`finetune`.

    Raises
    ------
    ConfigError
        If there is no such task, or no base model or data are named.
    DataError
        If a file of cells is not there.
    """
    path = recipe
    if path is None:
        if options.task is None:
            msg = f"--task is missing; name one of: {', '.join(TASKS.names())}."
            raise ConfigError(msg)
        path = recipe_of(options.task)
    raw: dict[str, Any] = {}
    if path is not None:
        faults = Faults(str(path))
        raw = read_settings(path, faults)
        faults.raise_if_any()
    path = path or Path(f"{options.task}.yaml")
    values = {_SETTINGS[field.name]: getattr(options, field.name) for field in fields(options)}
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    values = {name: value for name, value in values.items() if value is not None}
    faults = Faults(str(path))
    raw = set_values(drop_other_spellings(raw, values), values, faults)
    faults.raise_if_any()
    _check_named(raw, path)
    return GivenSettings(raw, path)


def _check_named(raw: dict[str, Any], path: Path) -> None:
    """Say what is missing, or not there, before a base model is fetched."""
    load_plugins(raw.get("plugins") or [], path.parent)  # a task may be theirs
    own, data = raw.get("finetune") or {}, raw.get("data") or {}
    if not own.get("base_model"):
        msg = (
            "finetune.base_model is missing; name a model folder, a run, hf://owner/name or scmodelforge://NAME (see "
            "'scmodelforge models list')."
        )
        raise ConfigError(msg)
    if own.get("task") is not None:
        TASKS.get(own["task"])
    if data.get("source", "local") != "local":
        return
    if not data.get("paths"):
        msg = "data.paths is missing; name the .h5ad file of the cells."
        raise ConfigError(msg)
    for name in data["paths"]:
        if "://" not in name and not any(sign in name for sign in "*?[") and not Path(name).expanduser().exists():
            msg = f"data.paths: no such file: {name}"
            raise DataError(msg)
