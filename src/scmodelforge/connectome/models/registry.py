"""The names that models of pairs are known under."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from scmodelforge._registry import CONNECTOME_MODELS
from scmodelforge.connectome.models.base import ConnectomeModel

__all__ = ["get_connectome_model", "list_connectome_models", "register_connectome_model"]

M = TypeVar("M", bound="type[ConnectomeModel]")


def register_connectome_model(name: str) -> Callable[[M], M]:
    """Return a class decorator that makes a model known under ``name``."""

    def decorate(model: M) -> M:
        CONNECTOME_MODELS.register(name)(model)
        model.name = name
        return model

    return decorate


def get_connectome_model(name: str) -> type[ConnectomeModel]:
    """Return the class of a model, to be made with the arguments it has.

    Raises
    ------
    ConfigError
        (a ``ValueError``) If there is none of that name; the message lists those there are.
    """
    return CONNECTOME_MODELS.get(name)


def list_connectome_models() -> list[str]:
    """Return the names of all models, sorted."""
    return CONNECTOME_MODELS.names()
