"""The optimiser: which parameters decay, and which have a learning rate of their own."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import OptimizerConfig
from scmodelforge.training._depth import num_blocks, parameter_depths
from scmodelforge.training.schedules import SCHEDULES, build_scheduler

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "advance_without_step",
    "build_optimizer",
    "build_scheduler",
    "parameter_groups",
    "require_match",
]

_NORM = re.compile(r"norm(\dd)?$", re.IGNORECASE)  # LayerNorm, RMSNorm, BatchNorm1d, and a user's own


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
    spared = _spared(module)
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if id(p) not in spared], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) in spared], "weight_decay": 0.0},
    ]


def build_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimiser of the settings over all parameters of a module.

    Parameters are in the groups of :func:`parameter_groups`, divided further where they have a learning rate or a
    decay of their own (``groups``, ``layer_decay``).

    Raises
    ------
    ConfigError
        If a pattern fits no parameter, or the model has no blocks to tell layers by.
    """
    plain = not config.groups and config.layer_decay is None
    groups = parameter_groups(module, config.weight_decay) if plain else _rated_groups(module, config)
    return OPTIMIZERS[config.name](groups, config)


def require_match(model: nn.Module, pattern: str, *, setting: str) -> set[str]:
    """Return the names of the parameters that a pattern fits.

    Raises
    ------
    ConfigError
        If there are none.
    """
    names = [name for name, _ in model.named_parameters()]
    found = {name for name in names if fnmatchcase(name, pattern)}
    if not found:
        tops = ", ".join(dict.fromkeys(f"{name.partition('.')[0]}*" for name in names))
        msg = f"{setting} is '{pattern}', which fits no parameter of {type(model).__name__}; those there are: {tops}."
        raise ConfigError(msg)
    return found


def _rated_groups(module: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Divide the parameters by their learning rate and decay; those that decay come first."""
    spared, rates = _spared(module), _layer_rates(module, config)
    chosen: dict[str, tuple[float | None, float | None]] = {}
    for number, group in enumerate(config.groups):
        setting = f"training.optimizer.groups[{number}].parameters"
        for name in require_match(module, group.parameters, setting=setting):
            chosen.setdefault(name, (group.lr, group.weight_decay))
    groups: dict[tuple[bool, float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        lr, weight_decay = chosen.get(name, (None, None))
        lr = rates[name] if lr is None else lr
        weight_decay = config.weight_decay if weight_decay is None else weight_decay
        is_spared = id(parameter) in spared
        groups.setdefault((is_spared, lr, 0.0 if is_spared else weight_decay), []).append(parameter)
    ordered = sorted(groups.items(), key=lambda group: group[0][0])
    return [{"params": params, "lr": lr, "weight_decay": decay} for (_, lr, decay), params in ordered]


def _layer_rates(module: nn.Module, config: OptimizerConfig) -> dict[str, float]:
    """Return the learning rate of each parameter (Clark et al. 2020, ELECTRA, arXiv:2003.10555)."""
    if config.layer_decay is None:
        return {name: config.lr for name, _ in module.named_parameters()}
    if not num_blocks(module):
        msg = (
            f"training.optimizer.layer_decay is {config.layer_decay:g}, but {type(module).__name__} has no list of "
            "blocks to tell layers by; leave it out, or set rates with training.optimizer.groups."
        )
        raise ConfigError(msg)
    top = num_blocks(module) + 1
    return {name: config.lr * config.layer_decay ** (top - depth) for name, depth in parameter_depths(module).items()}


def _spared(module: nn.Module) -> set[int]:
    """Return the ids of the parameters without decay."""
    return {
        id(parameter)
        for owner in module.modules()
        for name, parameter in owner.named_parameters(recurse=False)
        if _is_spared(owner, name, parameter)
    }


def advance_without_step(scheduler: LambdaLR) -> None:
    """Move a schedule one step on where the optimiser did not take that step."""
    with warnings.catch_warnings():
        # If it is the first step, torch thinks that the two were called in the wrong order.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        scheduler.step()


def _is_spared(owner: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    if isinstance(owner, nn.Embedding | nn.EmbeddingBag) or _NORM.search(type(owner).__name__):
        return True
    # A learned token is a vector of shape (1, 1, H); the weight of a layer with one output is a matrix.
    is_vector = parameter.ndim < 2 or (name != "weight" and parameter.numel() == parameter.shape[-1])
    return is_vector or "bias" in name or "embed" in name


def _adamw(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    # One kernel for all parameters, on GPUs and on the CPU, where it is several times as fast as the loop
    # (benchmarks/optimizer.py).
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True)


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], OptimizerConfig], torch.optim.Optimizer]] = {"adamw": _adamw}
