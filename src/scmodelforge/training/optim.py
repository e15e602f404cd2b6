"""The optimiser, which parameters decay, and the learning rate over the steps."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from scmodelforge.config.schema import OptimizerConfig, SchedulerConfig

__all__ = ["OPTIMIZERS", "SCHEDULES", "build_optimizer", "build_scheduler", "parameter_groups"]

_NORM = re.compile(r"norm(\dd)?$", re.IGNORECASE)  # LayerNorm, RMSNorm, BatchNorm1d, and a user's own

#: A schedule gives the learning rate over its peak from (step, total steps, settings).
Schedule = Callable[[int, int, SchedulerConfig], float]


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Divide the parameters into those that decay and those that do not.

    Norms, biases, embeddings and single vectors (such as a learned token) have no decay. Frozen parameters are
    included, so that they can be unfrozen later. A tied parameter comes once, and without decay if any of its users
    is an embedding.

    Parameters
    ----------
    module
        The model.
    weight_decay
        Decay of the first group.

    Returns
    -------
    Two groups for an optimiser, with ``params`` and ``weight_decay``; every parameter is in exactly one.
    """
    parameters: dict[int, nn.Parameter] = {}
    spared: set[int] = set()
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            parameters.setdefault(id(parameter), parameter)
            if _is_spared(owner, name, parameter):
                spared.add(id(parameter))
    return [
        {"params": [p for key, p in parameters.items() if key not in spared], "weight_decay": weight_decay},
        {"params": [p for key, p in parameters.items() if key in spared], "weight_decay": 0.0},
    ]


def build_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimiser of the settings over all parameters of a module, in decay groups."""
    return OPTIMIZERS[config.name](parameter_groups(module, config.weight_decay), config)


def build_scheduler(optimizer: torch.optim.Optimizer, config: SchedulerConfig, total_steps: int) -> LambdaLR:
    """Return the learning rate schedule of the settings, to be stepped once after each optimiser step.

    The learning rate is a pure function of the step. With w warm-up steps it is the peak times (step + 1) / (w + 1)
    for step < w, then 1 for ``constant``; ``cosine_warmup`` falls by half a cosine from 1 at step w to
    ``min_lr_ratio`` at the last step (Loshchilov & Hutter 2017, arXiv:1608.03983, without restarts).

    Parameters
    ----------
    optimizer
        Its learning rates are the peaks.
    config
        The schedule and its settings.
    total_steps
        Optimiser steps of the whole run.
    """
    schedule = SCHEDULES[config.name]
    return LambdaLR(optimizer, lambda step: schedule(step, total_steps, config))


def _is_spared(owner: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    if isinstance(owner, nn.Embedding | nn.EmbeddingBag) or _NORM.search(type(owner).__name__):
        return True
    # A learned token is a vector of shape (1, 1, H); the weight of a layer with one output is a matrix.
    is_vector = parameter.ndim < 2 or (name != "weight" and parameter.numel() == parameter.shape[-1])
    return is_vector or "bias" in name or "embed" in name


def _adamw(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps)


def _constant(step: int, total_steps: int, config: SchedulerConfig) -> float:
    return min(1.0, (step + 1) / (config.warmup_steps + 1))


def _cosine_warmup(step: int, total_steps: int, config: SchedulerConfig) -> float:
    if step < config.warmup_steps:
        return _constant(step, total_steps, config)
    length = max(1, total_steps - 1 - config.warmup_steps)
    share = min(1.0, (step - config.warmup_steps) / length)
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * (1 + math.cos(math.pi * share)) / 2


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], OptimizerConfig], torch.optim.Optimizer]] = {"adamw": _adamw}
SCHEDULES: dict[str, Schedule] = {"constant": _constant, "cosine_warmup": _cosine_warmup}
