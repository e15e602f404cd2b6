"""Continued pretraining: the base model goes on learning by its own objective, on other cells."""

from __future__ import annotations

import copy
from typing import ClassVar

from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import ModelConfig, RunConfig, UnfreezeConfig
from scmodelforge.finetuning.base import Task, register_task
from scmodelforge.hub.bundle import build_model
from scmodelforge.hub.weight_copies import copy_weights
from scmodelforge.models.fine_tuned_config import FineTunedConfig

__all__ = ["ContinuedPretraining"]


@register_task("continued_pretraining")
class ContinuedPretraining(Task):
    """Trains all weights of the base model."""

    benchmarks: ClassVar[tuple[str, ...]] = ("embedding_quality",)

    def check(self, config: RunConfig) -> None:
        """Refuse a base model that has a head, and an adaptation that trains less than all.

        Raises
        ------
        ConfigError
            If it is so.
        """
        if isinstance(self.base.model_config, FineTunedConfig):
            msg = (
                f"finetune.base_model {self.config.base_model} is fine-tuned and has no objective of its pretraining "
                "left; name the model that it was made of."
            )
            raise ConfigError(msg)
        if self.config.adaptation != "full":
            msg = (
                f"finetune.adaptation is '{self.config.adaptation}', but task 'continued_pretraining' trains the whole "
                "model; set it to 'full', or name parameters in training.unfreeze."
            )
            raise ConfigError(msg)

    def model(self) -> ModelConfig:
        """Return the settings of the base model, with the objective that it was trained by."""
        return self.base.model_config.model_copy(deep=True, update={"pretraining_task": self.base.objective})

    def fresh(self, config: ModelConfig) -> nn.Module:
        """Return a copy of the base model."""
        model = build_model(copy.deepcopy(config), self.base.tokenizer)
        copy_weights(self.base.model, model)
        return model

    def stages(self, config: RunConfig) -> list[UnfreezeConfig]:
        """Return none: all is trained."""
        return []
