"""Low-rank adapters in the linear layers of a model, by ``peft`` (Hu et al. 2022, arXiv:2106.09685).

An adapter adds ``B A x * alpha / rank`` to what a layer gives. ``B`` begins at zero: a model is at first what it was.
DoRA (Liu et al. 2024, arXiv:2402.09353) trains the length of the layer's columns apart from their direction.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from scmodelforge._errors import ConfigError, listed
from scmodelforge._optional import require
from scmodelforge.config.finetune_sections import AdapterConfig

__all__ = ["has_adapters", "inject_adapters", "merged_copy", "require_peft"]

_USUAL = ("q", "v")  # of the attention


def require_peft() -> Any:
    """Return the module ``peft``.

    Raises
    ------
    ImportError
        If it is not installed; the message has the command that installs it.
    """
    return require("peft", extra="peft", why="A model with low-rank adapters")


def inject_adapters(model: nn.Module, adapter: AdapterConfig, *, name: str) -> None:
    """Put adapters into a model, in place, and freeze all else in it.

    Parameters
    ----------
    model
        The model, with the weights that the adapters begin with.
    adapter
        Settings.
    name
        What the model is called in messages.

    Raises
    ------
    ConfigError
        If it has no such linear layers.
    ImportError
        If ``peft`` is not installed.
    """
    targets = _targets(model, adapter, name)
    peft = require_peft()
    config = peft.LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        use_dora=adapter.kind == "dora",
        target_modules=targets,
    )
    peft.inject_adapter_in_model(config, model)


def has_adapters(model: nn.Module) -> bool:
    """Tell whether there are adapters in a model."""
    return any(_is_adapted(module) for module in model.modules())


def merged_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a model with its adapters added to the weights of their layers; all of it is trained again."""
    merged = copy.deepcopy(model)
    adapted = [(path, module) for path, module in merged.named_modules() if _is_adapted(module)]
    for path, module in adapted:
        layer: Any = module
        layer.merge(safe_merge=True)
        owner, _, name = path.rpartition(".")
        setattr(merged.get_submodule(owner), name, layer.get_base_layer())
    for module in merged.modules():
        if hasattr(module, "peft_config"):
            del module.peft_config
    return merged.requires_grad_(True)


def _is_adapted(module: nn.Module) -> bool:
    return hasattr(module, "lora_A") and hasattr(module, "base_layer")


def _targets(model: nn.Module, adapter: AdapterConfig, name: str) -> list[str]:
    """Return the whole names of the layers that get an adapter."""
    linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    ends = adapter.targets or _USUAL
    found = {end: [path for path in linear if f".{path}".endswith(f".{end}")] for end in ends}
    missing = [end for end in ends if not found[end]]
    if missing:
        there = listed(sorted({path.rpartition(".")[2] for path in linear}), 12)
        given = "" if adapter.targets is None else f" (finetune.lora.targets has '{missing[0]}')"
        msg = (
            f"architecture '{name}' has no linear layer '{missing[0]}' to put an adapter into{given}; set "
            f"finetune.lora.targets to ends of the names of its linear layers ({there}), or finetune.adaptation to "
            "another one."
        )
        raise ConfigError(msg)
    return sorted({path for paths in found.values() for path in paths})
