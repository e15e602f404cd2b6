"""The parts of a recipe that hang on the loop or on the model, made of the settings."""

from __future__ import annotations

from typing import Any

from torch import nn

from scmodelforge.config.schema import TrainingConfig
from scmodelforge.training.compiling import check_compiles
from scmodelforge.training.early_stopping import with_early_stopping
from scmodelforge.training.optim import build_optimizer
from scmodelforge.training.unfreezing import Unfreezing, check_stages

__all__ = ["check_recipe_fits", "recipe_callbacks"]


def recipe_callbacks(config: TrainingConfig, callbacks: list[Any]) -> list[Any]:
    """Return callbacks with those of the recipe, each at its place: what unfreezes comes last.

    Parameters
    ----------
    config
        Settings of the loop.
    callbacks
        Those of the run.
    """
    unfreezing = [Unfreezing(config.unfreeze)] if config.unfreeze else []
    return with_early_stopping(config.early_stopping, callbacks) + unfreezing


def check_recipe_fits(model: nn.Module, config: TrainingConfig) -> None:
    """Refuse names of parameters that a model does not have, layers where it has none, and compiling nothing.

    Raises
    ------
    ConfigError
        If there are such settings.
    """
    build_optimizer(model, config.optimizer)
    check_stages(model, config.unfreeze)
    if config.compile:
        check_compiles(model)
