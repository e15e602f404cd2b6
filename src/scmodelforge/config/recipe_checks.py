"""Settings of how a model is optimised that need, contradict or silence others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from scmodelforge._errors import nearest
from scmodelforge._registry import MODELS, OBJECTIVES
from scmodelforge.config.cell_labels import counted_terms
from scmodelforge.config.faults import Faults
from scmodelforge.config.parts import objective_of
from scmodelforge.config.schema import DataConfig, EvalConfig, ModelConfig, SchedulerConfig, Section, TrainingConfig

__all__ = ["check_recipe", "check_validated", "unread_schedule_settings"]

#: Settings of the schedule that only some schedules read.
_READERS = {
    "min_lr_ratio": ("cosine_warmup", "linear", "wsd", "epoch_decay"),
    "decay_fraction": ("wsd",),
    "decay_shape": ("wsd",),
    "decay_factor": ("epoch_decay",),
}


def check_recipe(sections: Mapping[str, Section], faults: Faults) -> None:
    """Add a line for each setting of stopping early or of unfreezing that cannot be honoured.

    Parameters
    ----------
    sections
        Those without a mistake of their own.
    faults
        Gets the lines.
    """
    training = cast("TrainingConfig | None", sections.get("training"))
    if training is None:
        return
    _check_unfreezing(training, faults)
    data, evaluation = cast("DataConfig | None", sections.get("data")), cast("EvalConfig | None", sections.get("eval"))
    if training.early_stopping is not None and data is not None:
        model = cast("ModelConfig | None", sections.get("model"))
        _check_stopping(training, data, evaluation, model, faults)


def unread_schedule_settings(scheduler: SchedulerConfig) -> list[str]:
    """Return the settings that were changed and that the schedule named does not read."""
    default = SchedulerConfig()
    return [
        name
        for name, readers in _READERS.items()
        if scheduler.name not in readers and getattr(scheduler, name) != getattr(default, name)
    ]


def _check_unfreezing(training: TrainingConfig, faults: Faults) -> None:
    path, epochs = "training.unfreeze", [stage.epoch for stage in training.unfreeze]
    if not epochs:
        return
    if epochs[0] != 0:
        faults.add(
            path, f"{path} begins with epoch {epochs[0]}, so nothing is trained before; give it an entry of epoch 0."
        )
    elif epochs != sorted(set(epochs)):
        listed = ", ".join(map(str, epochs))
        faults.add(path, f"{path} has the epochs {listed}; each must be later than the one before.")
    elif epochs[-1] >= training.max_epochs:
        faults.add(
            path,
            f"{path} has an entry of epoch {epochs[-1]}, but training.max_epochs is {training.max_epochs}, so that it "
            "never comes; lower the former or raise the latter.",
        )


def check_validated(
    path: str, metric: str, data: DataConfig, model: ModelConfig | None, faults: Faults, *, instead: str
) -> None:
    """Add a line if validation will not give a metric.

    Parameters
    ----------
    path
        The setting that names the metric.
    metric
        ``val/loss``, or another of the validation.
    data, model
        Settings of the run.
    faults
        Gets the lines.
    instead
        What can be done but to hold out cells.
    """
    split = data.split
    holds_out = split.validation_fraction > 0 if split.validation_groups is None else bool(split.validation_groups)
    if split.file is None and not holds_out:
        faults.add(
            path,
            f"{path} is '{metric}', but data.split holds out no cells to validate on; hold out some, or {instead}.",
        )
    known = _validation_metrics(model)
    if known and metric not in known:
        faults.add(
            path,
            f"{path} is '{metric}', which validation does not give."
            f"{nearest(metric, known)} Choose one of: {', '.join(known)}.",
        )


def _check_stopping(
    training: TrainingConfig, data: DataConfig, evaluation: EvalConfig | None, model: ModelConfig | None, faults: Faults
) -> None:
    stopping, path = training.early_stopping, "training.early_stopping"
    assert stopping is not None
    if stopping.metric.startswith("val/"):
        check_validated(f"{path}.metric", stopping.metric, data, model, faults, instead="leave early_stopping out")
        return
    if evaluation is None:
        return
    if evaluation.every_n_steps is not None:
        faults.add(
            f"{path}.metric",
            f"{path}.metric is '{stopping.metric}', which is looked at when epochs end, but evaluation goes by "
            "eval.every_n_steps; set eval.every_n_epochs in its place.",
        )
    if not evaluation.benchmarks:
        faults.add(
            f"{path}.metric",
            f"{path}.metric is '{stopping.metric}', which is neither of the validation (val/loss) nor of a benchmark, "
            "since eval.benchmarks is empty; choose another metric or add the benchmark.",
        )
    elif stopping.mode is None:
        faults.add(
            f"{path}.mode",
            f"{path}.mode is needed for the metric '{stopping.metric}': set it to 'max' if higher is better, else to "
            "'min'.",
        )


def _validation_metrics(model: ModelConfig | None) -> list[str]:
    """Return what validation gives of a model; nothing where that is not known."""
    if model is None or model.architecture not in MODELS:
        return []
    task = objective_of(model)
    if task not in OBJECTIVES:
        return []
    terms = (*getattr(OBJECTIVES.get(task), "loss_terms", ()), *counted_terms(model))
    return ["val/loss", *(f"val/{term}" for term in terms)]
