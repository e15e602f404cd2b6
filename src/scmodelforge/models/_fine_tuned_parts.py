"""What a model with a head does to its backbone, and with the terms of its head."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.config.head import HeadConfig
from scmodelforge.models.components.flops import forward_flops
from scmodelforge.models.protocol import ModelOutput

__all__ = ["check_readable", "flops_of", "look_inside", "summed", "without_pretraining"]


def summed(terms: Mapping[str, torch.Tensor], *, apart: Collection[str]) -> torch.Tensor:
    """Return the sum of the terms of a loss, but for those that do not count."""
    return torch.stack([term for name, term in terms.items() if name not in apart]).sum()


def flops_of(model: Any) -> Callable[[dict[str, Any]], int]:
    """Return what tells the FLOPs of one pass forward of a model with a head on a batch."""
    own = model.backbone.forward_flops
    parts = getattr(model.backbone, "flop_parts", None)

    def tell(batch: dict[str, Any]) -> int:
        head = forward_flops(model, [("head", 1)], batch)
        if "cell_embeddings" in batch:
            return head
        # An embedding needs each part once, whatever pretraining repeats.
        flops = own(batch) if parts is None else forward_flops(model.backbone, dict.fromkeys(parts), batch)
        return int(flops) + head

    return tell


def look_inside(backbone: nn.Module, batch: Mapping[str, Any], *, states: bool, maps: bool) -> ModelOutput:
    """Return hidden states and attentions of a backbone, as asked for, by a pass with nothing hidden."""
    if not (states or maps):
        return ModelOutput()
    seen = {name: value for name, value in batch.items() if name not in ("labels", "masked_positions")}
    seen["prefix_len"] = (batch["attention_mask"] != 0).sum(dim=1)  # each token sees the whole cell, as in encode
    output: ModelOutput = backbone(**seen, return_logits=False, output_hidden_states=states, output_attentions=maps)
    return output


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
