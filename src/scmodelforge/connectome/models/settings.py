"""How a model of pairs is trained."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch

from scmodelforge._errors import ConfigError, RunError, require_whole
from scmodelforge.config.schema import TrainingConfig

__all__ = [
    "DivergedError",
    "TrainingSettings",
    "check_heads",
    "checked_dims",
    "own_arguments",
    "require_share",
    "seeded",
]

_log = logging.getLogger(__name__)
_WARMUP = 0.1  # share of all steps, of the cosine schedule
_ACCELERATORS = ("auto", "cpu", "gpu", "mps")


class DivergedError(RunError):
    """The training of a model of pairs left the finite numbers.

    Parameters
    ----------
    why
        What was seen.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"training diverged: {why}. Lower learning_rate, or set cosine_lr, whose rate rises slowly")
        self.why = why


@dataclass(frozen=True)
class TrainingSettings:
    """The arguments of every model that are about training.

    Attributes
    ----------
    learning_rate, weight_decay
        Of AdamW.
    batch_size
        Pairs of a step.
    epochs
        Passes over the training pairs.
    cosine_lr
        Whether the learning rate rises over a tenth of the steps and falls to 0 by half a cosine; else it stays.
    lambda_sym
        Weight of the squared difference of the predictions of a pair and its mirror image.
    seed
        Of weights, dropout and the order of pairs.
    accelerator
        ``auto``, ``cpu``, ``gpu`` or ``mps``.
    num_workers
        Pairs are gathered in memory, so processes that read them would do nothing; other numbers than 0 say so.
    """

    learning_rate: float
    weight_decay: float
    batch_size: int
    epochs: int
    cosine_lr: bool
    lambda_sym: float
    seed: int
    accelerator: str
    num_workers: int

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> TrainingSettings:
        """Return the settings among the arguments of a model."""
        return cls(**{field.name: arguments[field.name] for field in fields(cls)})

    def __post_init__(self) -> None:
        require_whole("batch_size", self.batch_size, 2)
        require_whole("epochs", self.epochs, 1)
        require_whole("seed", self.seed, 0)
        require_whole("num_workers", self.num_workers, 0)
        _require_number("learning_rate", self.learning_rate, above_zero=True)
        _require_number("weight_decay", self.weight_decay)
        _require_number("lambda_sym", self.lambda_sym)
        if self.accelerator not in _ACCELERATORS:
            msg = f"accelerator is {self.accelerator!r}; one of {', '.join(_ACCELERATORS)} is needed."
            raise ConfigError(msg)
        if self.num_workers:
            _log.warning(f"num_workers is {self.num_workers}: pairs are gathered in memory, so none are started.")

    def config(self) -> TrainingConfig:
        """Return the settings of the loop."""
        schedule = {"name": "cosine_warmup", "warmup_fraction": _WARMUP} if self.cosine_lr else {"name": "constant"}
        return TrainingConfig.model_validate(
            {
                "batch_size": self.batch_size,
                "max_epochs": self.epochs,
                "optimizer": {"lr": self.learning_rate, "weight_decay": self.weight_decay},
                "scheduler": schedule,
                "accelerator": self.accelerator,
                "seed": self.seed,
                "log_every_n_steps": 1,
            }
        )


def checked_dims(dims: Sequence[int]) -> list[int]:
    """Return the widths of the layers of the head.

    Raises
    ------
    ConfigError
        If they are no list of whole numbers.
    """
    if isinstance(dims, str) or not isinstance(dims, Sequence):
        msg = f"deep_hidden_dims is {dims!r}; a list of widths is needed, such as [512, 256, 128]."
        raise ConfigError(msg)
    for width in dims:
        require_whole("a width of deep_hidden_dims", width, 1)
    return [int(width) for width in dims]


def require_share(name: str, value: Any) -> None:
    """Refuse a dropout that is not in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        msg = f"{name} is {value!r}; a share of at least 0 and below 1 is needed."
        raise ConfigError(msg)


def _require_number(name: str, value: Any, *, above_zero: bool = False) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < 0 or (above_zero and value == 0):
        msg = f"{name} is {value!r}; a number {'above' if above_zero else 'of at least'} 0 is needed."
        raise ConfigError(msg)


def own_arguments(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a model among the names of its constructor, but for data and gene vectors."""
    others = {"self", "__class__", "input_dim", "region_pair_dataset", "gene_embeddings"}
    return {name: value for name, value in names.items() if name not in others}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw the weights that are made in the body from a seed, without a trace in torch's generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def check_heads(d_model: int, nhead: int, num_layers: int) -> None:
    """Refuse widths, heads and layers that do not fit together."""
    require_whole("d_model", d_model, 1)
    require_whole("nhead", nhead, 1)
    require_whole("num_layers", num_layers, 1)
    if d_model % nhead:
        msg = f"d_model ({d_model}) is not divisible by nhead ({nhead}); change one of them so that it is."
        raise ConfigError(msg)
