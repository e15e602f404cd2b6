"""What a task of fine-tuning says: the model that a base model becomes, and its first weights.

Data, loop, run folder and report are those of any run. A task is one file in ``scmodelforge.finetuning.tasks`` that
registers a :class:`Task`, the head that it trains (:func:`~scmodelforge.models.fine_tuned_heads.register_head`) and, if
its batches are made in another way than those of cell types, an objective.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge._registry import TASKS
from scmodelforge.config.head import HeadConfig
from scmodelforge.config.schema import FinetuneConfig, ModelConfig, RunConfig, UnfreezeConfig
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.splits import CellSplit
from scmodelforge.hub.bundle import Bundle, build_model
from scmodelforge.hub.weights import copy_weights
from scmodelforge.models.fine_tuned import FineTuneModel
from scmodelforge.models.fine_tuned_config import FineTunedConfig
from scmodelforge.training._depth import block_prefixes

__all__ = ["HeadTask", "Task", "register_task"]

T = TypeVar("T", bound=type)


def register_task(name: str) -> Callable[[T], T]:
    """Return a decorator that registers a class as ``finetune.task``."""
    return TASKS.register(name)


class Task:
    """A task.

    Parameters
    ----------
    config
        Its settings.
    base
        The model that is adapted, with all it needs.

    Attributes
    ----------
    config_class
        Class of its settings.
    benchmarks
        What is run where ``eval.benchmarks`` is not set.
    """

    config_class: ClassVar[type[FinetuneConfig]] = FinetuneConfig
    benchmarks: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: FinetuneConfig, base: Bundle) -> None:
        self.config, self.base = config, base

    def check(self, config: RunConfig) -> None:
        """Refuse settings of the run that the task cannot work with.

        Raises
        ------
        ConfigError
            If there are such settings.
        """

    def choose_cells(self, config: RunConfig, source: CellSource, split: CellSplit) -> CellSplit:
        """Return which of the cells of a split a run passes over, by default all.

        Parameters
        ----------
        config, source
            Settings of the run, and its cells.
        split
            The cells that ``data.split`` and ``data.filter`` give each side.
        """
        return split

    def prepare(self, config: RunConfig, data: Any, *, reopen: Callable[[Any], CellSource]) -> None:
        """Learn what the task needs of the data before a model is made, and fill in settings that follow from it.

        Parameters
        ----------
        config
            Settings of the run, which may be changed.
        data
            A :class:`~scmodelforge.workflows.prepare.PreparedData`; of a run that goes on, its split is the stored one.
        reopen
            Opens cells as section ``data`` of some settings says.
        """

    def objective(self, made: Any) -> Any:
        """Return the objective with what :meth:`prepare` learned, by default as it was made."""
        return made

    def facts(self) -> dict[str, Any]:
        """Return what the model's folder says in ``labels.json`` beside the labels of cells."""
        return {}

    def write(self, folder: Path) -> None:
        """Write files of the task's own into the folder of a run that begins."""

    def model(self) -> ModelConfig:
        """Return settings of the model that is trained."""
        raise NotImplementedError

    def fresh(self, config: ModelConfig) -> nn.Module:
        """Return the model before its first step; drawn from torch's generator is what the base model has not.

        Parameters
        ----------
        config
            What :meth:`model` returned, with the sizes that follow from the data.
        """
        raise NotImplementedError

    def stages(self, config: RunConfig) -> list[UnfreezeConfig]:
        """Return which parameters are trained from which epoch on; none where all are trained from the first."""
        raise NotImplementedError


class HeadTask(Task):
    """A task of a head on the base model, whose own head, if it has one, gives way."""

    def head(self) -> HeadConfig:
        """Return settings of the head."""
        raise NotImplementedError

    def model(self) -> FineTunedConfig:
        """Return settings of a model around the base model's."""
        own: Any = self.base.model_config
        backbone = own.backbone_settings() if isinstance(own, FineTunedConfig) else own
        return FineTunedConfig(backbone=backbone, vocab_size=len(self.base.vocab), head=self.head())

    def fresh(self, config: ModelConfig) -> nn.Module:
        """Return a model with the base model's weights and a new head."""
        model: Any = build_model(config, self.base.tokenizer)
        source: Any = self.base.model
        copy_weights(source.backbone if isinstance(source, FineTuneModel) else source, model.backbone)
        return model

    def stages(self, config: RunConfig) -> list[UnfreezeConfig]:
        """Return the stages of ``finetune.adaptation``, patterns of parameter names of the model."""
        own = self.config
        if own.adaptation == "full":
            return []
        head = UnfreezeConfig(epoch=0, parameters=["head.*"])
        if own.adaptation == "frozen":
            return [head]
        if own.adaptation in ("lora", "dora"):
            msg = (
                f"finetune.adaptation '{own.adaptation}' is not there yet; use 'full', 'frozen', 'last_n' or 'gradual'."
            )
            raise ConfigError(msg)
        blocks = self._blocks()
        if own.adaptation == "last_n":
            return [_stage(0, ["head.*", *(f"{block}*" for block in blocks[-self._last_layers(blocks) :])])]
        every = own.epochs_per_layer or 1
        later = [_stage(every * number, [f"{block}*"]) for number, block in enumerate(reversed(blocks), start=1)]
        whole = _stage(every * (len(blocks) + 1), ["*"])
        return [head, *(stage for stage in [*later, whole] if stage.epoch < config.training.max_epochs)]

    def _blocks(self) -> list[str]:
        """Return the beginnings of the names of each block's parameters, from below to above."""
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = FineTuneModel(self.model())
        found = block_prefixes(model.backbone)
        if not found:
            msg = (
                f"architecture '{self.model().backbone.architecture}' has no blocks, so finetune.adaptation cannot be "
                f"'{self.config.adaptation}'; set it to 'full' or 'frozen'."
            )
            raise ConfigError(msg)
        return [f"backbone.{prefix}" for prefix in found]

    def _last_layers(self, blocks: list[str]) -> int:
        number = self.config.last_layers or 2
        if number > len(blocks):
            msg = f"finetune.last_layers is {number}, but the base model has {len(blocks)} blocks; set at most that."
            raise ConfigError(msg)
        return number


def _stage(epoch: int, parameters: list[str]) -> UnfreezeConfig:
    return UnfreezeConfig(epoch=epoch, parameters=parameters)
