"""Fitting a tokenizer to cells: what runs do, and commands on tokenizers alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import PreprocessingConfig
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.tokenizers.base import BaseTokenizer, FittingVisitor

__all__ = ["preprocessor_of_values", "visitor_of"]

_OF_VALUES = frozenset({"normalize", "target_sum", "log1p"})


def visitor_of(
    tokenizer: BaseTokenizer, is_train: Callable[[np.ndarray], np.ndarray], preprocessor: Preprocessor
) -> FittingVisitor | None:
    """Return what fits a tokenizer to the training cells, ``None`` if there is nothing to fit.

    Parameters
    ----------
    tokenizer
        The tokenizer.
    is_train
        Tells of cell positions, shape (n,), which are training cells, shape (n,), bool.
    preprocessor
        What is done to cells before they are tokenised. Size factors are known after the pass only, so with those
        cells are taken as they are; the settings refuse tokenizers that this would matter to.
    """
    visitor: Any = tokenizer.visitor(is_train)
    if hasattr(visitor, "preprocess") and preprocessor.config.normalize != "scran":
        visitor.preprocess = preprocessor
    return visitor


def preprocessor_of_values(config: PreprocessingConfig, *, command: str) -> Preprocessor:
    """Return the preprocessor of a command that takes all cells and genes as they are.

    Raises
    ------
    ConfigError
        If a setting chooses cells or genes, or needs a pass over all of them.
    """
    default = type(config)()
    unread = [
        f"data.preprocessing.{name}"
        for name in type(config).model_fields
        if name not in _OF_VALUES and getattr(config, name) != getattr(default, name)
    ]
    if config.normalize == "scran":
        unread.append("data.preprocessing.normalize: scran")
    if unread:
        msg = f"{command} does not read {', '.join(unread)}, which need more than one pass; leave that out."
        raise ConfigError(msg)
    return Preprocessor(config)
