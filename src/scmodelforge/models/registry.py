"""Models by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from scmodelforge._registry import MODELS
from scmodelforge.config.own import own_settings
from scmodelforge.config.schema import ModelConfig
from scmodelforge.models._utils import required_vocab_size

__all__ = ["get_model", "list_models", "register_model"]

T = TypeVar("T", bound=type)


def register_model(name: str) -> Callable[[T], T]:
    """Return a class decorator that registers a model under a name and returns the class unchanged.

    The class needs ``from_config``, ``forward`` and ``encode``. It may name the class of its settings as
    ``config_class``, as ``default_objective`` and ``allowed_objectives`` what it can be pretrained on, as
    ``unused_settings`` the settings it does not read, as ``is_causal`` that no token sees a later one, as
    ``takes_attention_bias`` that its attention gets what its embedding's ``attention_bias`` gives, as
    ``value_masking`` whether masked values can be asked for at genes left visible only (``needed``), or whether it is
    told the genes in any case (``no effect``), as ``logits_of`` that its logits are one for each token of the
    vocabulary (``genes``) and not for each position, and as ``untrained_weights`` the parameters its objective cannot
    train (``*`` stands for anything). ``scmodelforge models check`` holds it to that.

    ``takes_counts`` says that it reads whole counts, ``only_value_use`` the one ``tokenizer.embedding`` it has, and
    ``fixed_vocabulary`` why it can know no more genes, if that is so. Of its settings, a property ``counted_terms``
    names loss terms beside those of the objective and what each is a mean over
    (:mod:`scmodelforge.objectives.counted`), ``unread_settings`` what the others leave without effect and why, and a
    method ``check_vocab_size`` may refuse a size.

    For a head that reads it (architecture ``fine_tuned``) it may name as ``pretraining_parts`` its parts that embedding
    cells does not need, which are then left out, and as ``embedding_dim`` the width of embeddings, if that is not
    ``hidden_dim``. A method ``encode_tokens`` gives embeddings of cells and hidden states of tokens in one pass;
    ``first_sees_cell = False`` says that the first of these does not depend on the others.

    ``terms_apart`` are terms of its loss that say nothing of how good it is and so do not count for ``val/loss``. A
    method ``set_step`` is told the optimiser steps done before each step of training, and a method ``forward_flops``
    tells the FLOPs of a pass forward on a batch on the host, for the logged MFU.

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
    own = own_settings("model", name, config, getattr(model_class, "config_class", ModelConfig))
    return model_class.from_config(own)


def list_models() -> list[str]:
    """Return the names of all registered models, sorted."""
    return MODELS.names()
