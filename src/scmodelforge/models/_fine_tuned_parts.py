"""What a model with a head does to its backbone, and with the terms of its head."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.config.head import HeadConfig

__all__ = ["check_readable", "summed", "without_pretraining"]


def summed(terms: Mapping[str, torch.Tensor], *, apart: Collection[str]) -> torch.Tensor:
    """Return the sum of the terms of a loss, but for those that do not count."""
    return torch.stack([term for name, term in terms.items() if name not in apart]).sum()


def without_pretraining(model: nn.Module) -> nn.Module:
    """Take out of a model what it names as needed by its pretraining only, in place."""
    for name in getattr(model, "pretraining_parts", ()):
        owner, _, part = name.rpartition(".")
        setattr(model.get_submodule(owner), part, None)
    return model


def check_readable(backbone: nn.Module, name: str, head: HeadConfig) -> None:
    """Refuse a head that reads tokens of a model that gives none, or whose first one knows nothing of the others."""
    if head.reads == "cells":
        return
    lacks = None if hasattr(backbone, "encode_tokens") else "has no hidden state of each token"
    if lacks is None and head.reads == "first" and not getattr(backbone, "first_sees_cell", True):
        lacks = "has a first token that sees no other"
    if lacks is not None:
        if head.reads == "tokens":
            msg = f"model.head.kind '{head.kind}' reads tokens, but architecture '{name}' {lacks}; take another model."
            raise ConfigError(msg)
        msg = f"model.head.pooling is 'first', but architecture '{name}' {lacks}; set it to 'embedding'."
        raise ConfigError(msg)
