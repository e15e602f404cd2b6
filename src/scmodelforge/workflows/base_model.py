"""The model that a run adapts: loaded, and its facts put into the run's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scmodelforge._errors import ConfigError, listed
from scmodelforge._registry import TASKS
from scmodelforge.config.load import drop_unread, parse_config
from scmodelforge.config.preprocessing import PreprocessingConfig
from scmodelforge.config.schema import ModelConfig, RunConfig, Section
from scmodelforge.finetuning.base import Task
from scmodelforge.hub.load import load_model
from scmodelforge.workflows.adapted_training import fit_to_adaptation
from scmodelforge.workflows.prepare import open_source

__all__ = ["load_task", "require_columns", "with_base"]

#: Preprocessing that the base model's tokens are made after; the other settings choose cells and genes.
_TRANSFORMS = ("normalize", "target_sum", "log1p")
#: What would choose other genes than the base model has.
_GENE_CHOICE = ("min_cells_per_gene", "hvg_selection")
#: Sizes that follow from data.
_FROM_DATA = ("vocab_size", "num_cell_types", "num_batches", "mask_ratio")


def load_task(config: RunConfig) -> Task | None:
    """Load the base model of a run, if it has one.

    Parameters
    ----------
    config
        Settings of the run.

    Returns
    -------
    The task with the base model, whose identity is put into the settings, or ``None`` without a section ``finetune``.

    Raises
    ------
    ConfigError, DataError
        As of :func:`~scmodelforge.hub.load.load_model`; if the settings name the identity of another model.
    """
    own = config.finetune
    if own is None:
        return None
    base = load_model(
        own.base_model,
        dictionaries=None if own.dictionaries is None else Path(own.dictionaries).expanduser(),
        trust_plugins=own.trust_plugins,
    )
    if own.base_model_id not in (None, base.model_id):
        msg = (
            f"finetune.base_model {own.base_model} is model {base.model_id}, and finetune.base_model_id is "
            f"{own.base_model_id}; put that model back, or start a new run without finetune.base_model_id."
        )
        raise ConfigError(msg)
    own.base_model_id = base.model_id
    made: Task = TASKS.get(own.task)(own, base)
    return made


def require_columns(config: RunConfig) -> None:
    """Make sure that the settings name the obs columns that the task of a run needs, before a base model is loaded.

    Raises
    ------
    ConfigError
        If one is not named; the message lists those there are.
    """
    if config.finetune is None:
        return
    task: Any = TASKS.get(config.finetune.task)
    for name, what in getattr(task, "needs", {}).items():
        if getattr(config.data, name) is None:
            there = listed(open_source(config.data).obs_columns, 20)
            msg = (
                f"data.{name} is not set, but task '{config.finetune.task}' needs the obs column of the {what}; name "
                f"it. There are: {there or 'none'}."
            )
            raise ConfigError(msg)


def with_base(config: RunConfig, task: Task, *, origin: str) -> RunConfig:
    """Return settings of a run in which what belongs to the base model is the base model's.

    Parameters
    ----------
    config
        Settings as they were read.
    task
        As of :func:`load_task`.
    origin
        What messages begin with.

    Raises
    ------
    ConfigError
        If a setting of the model, the tokens or the preprocessing is set to another value than the base model has, or
        the task cannot work with the settings.
    """
    task.check(config)
    base = task.base
    raw, usual = config.to_dict(), parse_config({"data": {"paths": ["none"]}}, origin=origin)
    # A run's settings import its plugins, and its folder is trusted later: code that nobody trusted goes no further.
    own_code = base.plugins if config.finetune and config.finetune.trust_plugins else []
    raw["plugins"] = [*config.plugins, *(name for name in own_code if name not in config.plugins)]
    _take(raw, "tokenizer", config.tokenizer, base.tokenizer.config, usual.tokenizer, task)
    _take(raw, "model", config.model, task.model(), usual.model, task)
    _take_preprocessing(raw["data"]["preprocessing"], config.data.preprocessing, base.preprocessor.config, task)
    vocab = type(config.data).model_fields["gene_vocab"].default
    if config.data.gene_vocab != vocab:
        msg = (
            f"data.gene_vocab is {config.data.gene_vocab!r}, but the genes are those of {_name(task)}; leave it out. "
            "New genes are given to a model by 'extend_vocabulary' first."
        )
        raise ConfigError(msg)
    if not config.eval.benchmarks and "benchmarks" not in config.eval.model_fields_set:
        raw["eval"]["benchmarks"] = list(task.benchmarks)
    fit_to_adaptation(raw, config, task)
    if not config.training.unfreeze:
        raw["training"]["unfreeze"] = [stage.model_dump() for stage in task.stages(config)]
    elif config.training.unfreeze != task.stages(config) and config.finetune.adaptation != "full":  # type: ignore[union-attr]
        msg = (
            f"finetune.adaptation '{config.finetune.adaptation}' and training.unfreeze both say what is trained; "  # type: ignore[union-attr]
            "keep one of them."
        )
        raise ConfigError(msg)
    return parse_config(raw, origin=origin)


def _take(raw: dict[str, Any], name: str, given: Section, own: Section, default: Section, task: Task) -> None:
    """Put a section of the base model into the settings."""
    values = own.model_dump(mode="json")
    if _facts(given) != _facts(default) and _facts(given) != _facts(own):
        differ = [key for key, value in _facts(own).items() if _facts(given).get(key, value) != value]
        differ += sorted(_facts(given).keys() - _facts(own).keys())
        msg = (
            f"{name}.{differ[0]} is not that of {_name(task)}; leave out section '{name}', which the base model brings."
        )
        raise ConfigError(msg)
    for key in _FROM_DATA:
        values.pop(key, None)
    if isinstance(own, ModelConfig):
        drop_unread(values, own)
    raw[name] = values


def _take_preprocessing(raw: dict[str, Any], given: PreprocessingConfig, own: PreprocessingConfig, task: Task) -> None:
    default = PreprocessingConfig()
    for key in _GENE_CHOICE:
        if getattr(given, key) is not None:
            msg = f"data.preprocessing.{key} chooses genes, and the genes are those of {_name(task)}; remove it."
            raise ConfigError(msg)
    for key in _TRANSFORMS:
        value = getattr(own, key)
        if getattr(given, key) not in (getattr(default, key), value):
            msg = f"data.preprocessing.{key} is {getattr(given, key)!r} and {value!r} in {_name(task)}; remove it."
            raise ConfigError(msg)
        raw[key] = value


def _facts(section: Section) -> dict[str, Any]:
    found = {key: value for key, value in section.model_dump(mode="json").items() if key not in _FROM_DATA}
    head = getattr(section, "head", None)
    if head is not None:  # what an earlier run filled in is filled in anew
        found["head"] = {key: value for key, value in found["head"].items() if key not in head.filled}
    return found


def _name(task: Task) -> str:
    return f"the base model {task.config.base_model}"
