"""Models by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge._registry import MODELS
from scmodelforge.config.schema import ModelConfig
from scmodelforge.models._utils import required_vocab_size

__all__ = ["get_model", "list_models", "register_model"]

T = TypeVar("T", bound=type)


def register_model(name: str) -> Callable[[T], T]:
    """Return a class decorator that registers a model under a name and returns the class unchanged.

    The class needs ``from_config``, ``forward`` and ``encode``. It may name the class of its settings as
    ``config_class``, and as ``default_objective`` and ``allowed_objectives`` what it can be pretrained on.

    Parameters
    ----------
    name
        What ``model.architecture`` says to choose the model.

    Raises
    ------
    ValueError
        If the name is taken.
    """
    return MODELS.register(name)


def get_model(name: str, config: ModelConfig) -> nn.Module:
    """Make a registered model from settings.

    Parameters
    ----------
    name
        Registered name.
    config
        Settings with ``vocab_size`` set. Plain settings are completed with the defaults of the model's own ones.

    Returns
    -------
    The model with fresh weights.

    Raises
    ------
    ConfigError
        If the name is unknown, ``vocab_size`` is not set or the settings do not fit the model.
    """
    model_class: Any = MODELS.get(name)
    required_vocab_size(config)
    own = _own_settings(name, config, getattr(model_class, "config_class", ModelConfig))
    return model_class.from_config(own)


def list_models() -> list[str]:
    """Return the names of all registered models, sorted."""
    return MODELS.names()


def _own_settings(name: str, config: ModelConfig, config_class: type[ModelConfig]) -> ModelConfig:
    """Return the settings as the model's own class, so that ``config.architecture`` may be changed afterwards."""
    if isinstance(config, config_class):
        return config
    values = {}
    for field, info in type(config).model_fields.items():
        value = getattr(config, field)
        if field in config_class.model_fields:
            values[field] = value
        elif value != info.get_default(call_default_factory=True):
            msg = f"model '{name}' has no setting 'model.{field}' (it is {value!r}); remove it."
            raise ConfigError(msg)
    try:
        return config_class.model_validate(values)
    except ValidationError as problem:
        faults = "; ".join(f"model.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problem.errors())
        msg = f"the settings do not fit model '{name}': {faults}."
        raise ConfigError(msg) from problem
