"""Which parameters of a model with a head are trained from which epoch on: what ``finetune.adaptation`` says."""

from __future__ import annotations

from collections.abc import Callable

import torch

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import FinetuneConfig, UnfreezeConfig
from scmodelforge.models.fine_tuned import FineTuneModel
from scmodelforge.models.fine_tuned_config import FineTunedConfig
from scmodelforge.training._depth import block_prefixes

__all__ = ["stages_of"]


def stages_of(config: FinetuneConfig, model: Callable[[], FineTunedConfig], *, max_epochs: int) -> list[UnfreezeConfig]:
    """Return the stages, patterns of parameter names of the model; none where all is trained from the first epoch.

    Parameters
    ----------
    config
        Settings of the task.
    model
        Gives those of the model, which are asked for where its blocks count.
    max_epochs
        Epochs of the run; stages that would begin later are left out.

    Raises
    ------
    ConfigError
        If blocks are to be trained and there are none, or fewer.
    """
    if config.adaptation in ("full", "lora", "dora"):  # a model with adapters has frozen the rest itself
        return []
    head = UnfreezeConfig(epoch=0, parameters=["head.*"])
    if config.adaptation == "frozen":
        return [head]
    blocks = _blocks(model(), config.adaptation)
    if config.adaptation == "last_n":
        last = blocks[-_last_layers(config, blocks) :]
        return [UnfreezeConfig(epoch=0, parameters=["head.*", *(f"{block}*" for block in last)])]
    every = config.epochs_per_layer or 1
    later = [[f"{block}*"] for block in reversed(blocks)]
    stages = [
        UnfreezeConfig(epoch=every * number, parameters=parameters)
        for number, parameters in enumerate([*later, ["*"]], start=1)
    ]
    return [head, *(stage for stage in stages if stage.epoch < max_epochs)]


def _blocks(model: FineTunedConfig, adaptation: str) -> list[str]:
    """Return the beginnings of the names of each block's parameters, from below to above."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        found = block_prefixes(FineTuneModel(model).backbone)
    if not found:
        msg = (
            f"architecture '{model.backbone.architecture}' has no blocks, so finetune.adaptation cannot be "
            f"'{adaptation}'; set it to 'full' or 'frozen'."
        )
        raise ConfigError(msg)
    return [f"backbone.{prefix}" for prefix in found]


def _last_layers(config: FinetuneConfig, blocks: list[str]) -> int:
    number = config.last_layers or 2
    if number > len(blocks):
        msg = f"finetune.last_layers is {number}, but the base model has {len(blocks)} blocks; set at most that."
        raise ConfigError(msg)
    return number
