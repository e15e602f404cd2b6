"""What a task of fine-tuning says: the model that a base model becomes, and its first weights.

Data, loop, run folder and report are those of any run. A task is one file in ``scmodelforge.finetuning.tasks`` that
registers a :class:`Task`, the head that it trains (:func:`~scmodelforge.models.fine_tuned_heads.register_head`) and, if
its batches are made in another way than those of cell types, an objective.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge._registry import TASKS
from scmodelforge.config.finetune_sections import AdapterConfig, LoraConfig
from scmodelforge.config.head import HeadConfig
from scmodelforge.config.schema import DataConfig, FinetuneConfig, ModelConfig, RunConfig, UnfreezeConfig
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.splits import CellSplit
from scmodelforge.hub.adapters import bare_backbone
from scmodelforge.hub.bundle import Bundle, build_model
from scmodelforge.hub.weight_copies import copy_weights
from scmodelforge.models.fine_tuned import FineTuneModel
from scmodelforge.models.fine_tuned_config import CellHeadConfig, FineTunedConfig
from scmodelforge.training._depth import block_prefixes

if TYPE_CHECKING:
    from scmodelforge.eval.base import Record
    from scmodelforge.finetuning.cells import TaskCells, TrainedCells
    from scmodelforge.finetuning.held_out import TaskFolds
    from scmodelforge.finetuning.predictions import Naming, Predictor
    from scmodelforge.objectives.base import Collator

__all__ = ["HeadTask", "Task", "register_task", "task_of_head"]

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
    head_kind
        The kind of head that it trains (``model.head.kind``), of whose models it makes predictions.
    held_out
        What it scores: ``cells`` that are held out, or something that is held out beside them.
    needs
        Settings of ``data`` that it cannot do without, each the name of an obs column, and what the column holds.
    command
        The command that uses its models, without ``scmodelforge`` and ``--model``.
    """

    config_class: ClassVar[type[FinetuneConfig]] = FinetuneConfig
    benchmarks: ClassVar[tuple[str, ...]] = ()
    head_kind: ClassVar[str | None] = None
    held_out: ClassVar[str] = "cells"
    needs: ClassVar[dict[str, str]] = {}
    command: ClassVar[str] = "embed YOUR.h5ad embedded.h5ad"

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

    def folds(self, config: RunConfig, source: CellSource, *, number: int, folder: Path) -> TaskFolds | None:
        """Return folds of what the task holds out and scores beside cells, ``None`` if that is cells alone.

        Parameters
        ----------
        config, source
            Settings of a run, and its cells.
        number
            Number of folds.
        folder
            Where files of the folds are written.
        """
        return None

    def also_trained(self, config: RunConfig, source: CellSource) -> np.ndarray:
        """Return positions of cells that are learned from though the run does not pass over them, ascending.

        They are looked for in other data as training cells are. Asked after :meth:`choose_cells`.
        """
        return np.zeros(0, dtype=np.int64)

    def also_scored(self, config: RunConfig, source: CellSource) -> np.ndarray:
        """Return positions of cells that are scored though they are not among the held-out ones, ascending."""
        return np.zeros(0, dtype=np.int64)

    def read(self, config: RunConfig, data: TaskCells, *, reopen: Callable[[DataConfig], CellSource]) -> None:
        """Read what the task needs of the data beside cells and labels, of a run that begins or goes on.

        Parameters
        ----------
        config
            Settings of the run, which may be filled in.
        data
            Its cells.
        reopen
            Opens cells as section ``data`` of some settings says.
        """

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

    def embeds_once(self) -> bool:
        """Tell whether embeddings of cells stay as they are in training, and are all that is read of the base model."""
        return False

    def prepare(self, config: RunConfig, data: TaskCells) -> None:
        """Write into the settings of a new run what follows from its training cells, and say what the user must know.

        Raises
        ------
        ConfigError, DataError
            If nothing can be learned from the cells.
        """

    def objective(self, made: Collator, config: RunConfig, data: TaskCells) -> Collator:
        """Return what makes the batches, of an objective that was made from the settings of the model.

        Parameters
        ----------
        made
            That objective.
        config
            Settings of the run, with what :meth:`prepare` wrote.
        data
            Its cells.
        """
        return made

    @classmethod
    def predictor(cls, bundle: Bundle, naming: Naming) -> Predictor:
        """Return what makes predictions of a model with a head of this kind.

        Raises
        ------
        ConfigError
            If the model cannot be asked for any.
        """
        msg = f"a head of kind '{cls.head_kind}' is not asked by predict; its documentation names the command."
        raise ConfigError(msg)

    def score(self, trained: TrainedCells) -> list[Record]:
        """Return scores on held-out cells, or genes, that no benchmark gives, beside those of simple guesses."""
        return []

    def notes(self, records: list[Record]) -> list[str]:
        """Return what to say of the scores of the exported model at the end of the run, a line each."""
        return []


def task_of_head(kind: str) -> type[Task] | None:
    """Return the task that trains heads of a kind, ``None`` if no registered one does."""
    tasks: list[Any] = [TASKS.get(name) for name in TASKS.names()]
    return next((task for task in tasks if getattr(task, "head_kind", None) == kind), None)


class HeadTask(Task):
    """A task of a head on the base model, whose own head, if it has one, gives way.

    Attributes
    ----------
    sees_whole_cells
        Whether batches of training show all of a cell, the same in each epoch.
    """

    sees_whole_cells: ClassVar[bool] = True

    def head(self) -> HeadConfig:
        """Return settings of the head."""
        raise NotImplementedError

    def model(self) -> FineTunedConfig:
        """Return settings of a model around the base model's."""
        own: Any = self.base.model_config
        backbone = own.backbone_settings() if isinstance(own, FineTunedConfig) else own
        return FineTunedConfig(
            backbone=backbone, vocab_size=len(self.base.vocab), head=self._chosen_head(), adapter=self._adapter()
        )

    def fresh(self, config: ModelConfig) -> nn.Module:
        """Return a model with the base model's weights and a new head."""
        adapter: AdapterConfig | None = config.adapter  # type: ignore[attr-defined]
        # Adapters come last: those of DoRA begin with the weights that are there.
        model: Any = build_model(config.model_copy(update={"adapter": None}), self.base.tokenizer)
        copy_weights(bare_backbone(self.base.model), model.backbone)
        if adapter is not None:
            model.add_adapter(adapter)
        return model

    def embeds_once(self) -> bool:
        """Tell whether the backbone is frozen and the head reads embeddings alone."""
        return self.config.adaptation == "frozen" and self.head().reads == "cells" and self.sees_whole_cells

    def stages(self, config: RunConfig) -> list[UnfreezeConfig]:
        """Return the stages of ``finetune.adaptation``, patterns of parameter names of the model."""
        own = self.config
        if own.adaptation in ("full", "lora", "dora"):  # a model with adapters has frozen the rest itself
            return []
        head = UnfreezeConfig(epoch=0, parameters=["head.*"])
        if own.adaptation == "frozen":
            return [head]
        blocks = self._blocks()
        if own.adaptation == "last_n":
            return [_stage(0, ["head.*", *(f"{block}*" for block in blocks[-self._last_layers(blocks) :])])]
        every = own.epochs_per_layer or 1
        later = [_stage(every * number, [f"{block}*"]) for number, block in enumerate(reversed(blocks), start=1)]
        whole = _stage(every * (len(blocks) + 1), ["*"])
        return [head, *(stage for stage in [*later, whole] if stage.epoch < config.training.max_epochs)]

    def _chosen_head(self) -> HeadConfig:
        """Return settings of the head; one on embeddings that stay as they are gets them standardised."""
        head = self.head()
        if not isinstance(head, CellHeadConfig):
            return head
        if head.standardised and not self.embeds_once():
            msg = (
                "finetune.head.standardised is set, but embeddings change in training, or the head reads none; leave "
                "it out: a run sets it itself where finetune.adaptation is 'frozen' and head.pooling 'embedding'."
            )
            raise ConfigError(msg)
        return head.model_copy(update={"standardised": self.embeds_once()})

    def _adapter(self) -> AdapterConfig | None:
        kind = self.config.adaptation
        if kind not in ("lora", "dora"):
            return None
        return AdapterConfig(kind=kind, **(self.config.lora or LoraConfig()).model_dump())

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
