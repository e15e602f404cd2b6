"""What a fine-tuned model predicts: columns of obs or var, which a task names and makes."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch

from scmodelforge._errors import ConfigError
from scmodelforge.data.types import Panel

__all__ = ["Naming", "Predictor", "free_name", "warn_of_unknown"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Naming:
    """When and how a cell, or a gene, is said to be of no known class.

    Attributes
    ----------
    min_confidence
        Those below are unknown.
    unknown
        What they are called.
    """

    min_confidence: float = 0.0
    unknown: str = "unknown"

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            msg = f"min_confidence is {self.min_confidence}; a probability is needed, from 0 to 1."
            raise ConfigError(msg)
        if not self.unknown:
            msg = "unknown is empty; name what cells of no known type are called."
            raise ConfigError(msg)


class Predictor(Protocol):
    """Makes columns of what a model gives for cells. It is a ``torch.nn.Module`` that holds the model.

    Attributes
    ----------
    table
        Where the columns belong.
    key
        The last part of the name in ``uns`` of where they come from.
    facts
        Further plain values that stand there.
    """

    table: Literal["obs", "var"]
    key: str
    facts: dict[str, Any]

    def encode(self, **batch: Any) -> torch.Tensor:
        """Return what is kept of each cell of a batch, shape (B, X)."""
        ...

    def columns(self, rows: np.ndarray, panel: Panel) -> dict[str, Any]:
        """Return columns by the ends of their names.

        Parameters
        ----------
        rows
            What :meth:`encode` gave for all cells, shape (N, X); NaN for cells without a gene the model knows.
        panel
            The genes of the data.
        """
        ...

    def told(self, columns: dict[str, Any]) -> str:
        """Return in words what was predicted of how many."""
        ...


def free_name(names: Collection[str]) -> str:
    """Return a word for what is unknown that is none of some names."""
    word = Naming().unknown
    while word in names:
        word += "_"
    return word


def warn_of_unknown(names: Collection[str], what: str) -> None:
    """Warn where a model learns a label that predictions have for what is unknown; ``what`` says of what it is one."""
    if Naming().unknown in names:
        _log.warning(
            f"'{Naming().unknown}' is {what} here and learned as any other; 'predict' has the same word for what it is "
            "not sure of, and will ask for another: --unknown NAME (tl.predict: unknown=NAME)"
        )
