"""Check: an adapter put in the place of a linear layer takes part, in training and in evaluation.

Adapters such as LoRA (Hu et al. 2021, arXiv:2106.09685) replace a layer by a module around it. Code that reads the
layer's weight instead of calling the layer passes them by. To tell, each layer is replaced once by a layer with other
weights and once by a module that adds the same to its output: whatever the one changes, the other must change.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from scmodelforge.workflows.model_check.results import Check, difference, fail, skip
from scmodelforge.workflows.model_check.subject import Subject

__all__ = ["CHECKS"]

_CHANGES = 1e-4
_NOTHING = 1e-7


class _Adapted(nn.Module):
    """A linear layer with something added to its output. It shows the layer's attributes, as adapters do."""

    def __init__(self, linear: nn.Linear, added: torch.Tensor) -> None:
        super().__init__()
        self.base = linear
        self.register_buffer("added", added)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.base(inputs) + functional.linear(inputs, self.added)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)


def _adapters_reached(subject: Subject) -> None:
    model = subject.model()
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if not linears:
        skip("the model has no nn.Linear")
    before = _outcomes(subject, model)
    passed_by: dict[str, list[str]] = {}
    for name, linear in linears.items():
        draw = torch.Generator().manual_seed(subject.seed)
        added = torch.randn(linear.weight.shape, generator=draw) / math.sqrt(linear.in_features)
        other = copy.deepcopy(linear)
        with torch.no_grad():
            other.weight.add_(added)
        with _replaced(model, linear, other):
            by_weight = _outcomes(subject, model)
        with _replaced(model, linear, _Adapted(linear, added)):
            by_adapter = _outcomes(subject, model)
        for what, value in before.items():
            is_shaped = difference(value, by_weight[what]) > _CHANGES
            if is_shaped and difference(value, by_adapter[what]) <= _NOTHING:
                passed_by.setdefault(name, []).append(what)
    if passed_by:
        _tell(passed_by)


def _tell(passed_by: dict[str, list[str]]) -> None:
    name, outcomes = next(iter(passed_by.items()))
    layers = f" (and {len(passed_by) - 1} more layers)" if len(passed_by) > 1 else ""
    others = f" and {len(outcomes) - 3} more" if len(outcomes) > 3 else ""
    fail(
        f"an adapter in the place of {name}{layers} does not change {', '.join(outcomes[:3])}{others}, but the layer's "
        "weight does; LoRA needs every nn.Linear to be called as a module; call self.layer(x) and read no "
        "self.layer.weight (nn.TransformerEncoderLayer does so in evaluation and nn.MultiheadAttention always; use "
        "scmodelforge.models.components.TransformerStack)"
    )


def _outcomes(subject: Subject, model: nn.Module) -> dict[str, torch.Tensor | None]:
    """Return all that a model answers, without gradients since only then fused paths are taken."""
    found: dict[str, torch.Tensor | None] = {}
    batch = subject.batch()
    with torch.no_grad():
        found["encode in evaluation"] = subject.encode(model.eval(), subject.clean())
        for mode in ("evaluation", "training"):
            output = subject.forward(model.train(mode == "training"), batch)
            found[f"logits in {mode}"], found[f"loss in {mode}"] = output.logits, output.loss
            found[f"embeddings in {mode}"] = output.embeddings
        if subject.takes_return_logits():
            found["loss with return_logits=False"] = subject.forward(model, batch, return_logits=False).loss
    return found


@contextmanager
def _replaced(model: nn.Module, old: nn.Module, new: nn.Module) -> Iterator[None]:
    """Put a module in another's place, wherever that is used, for a while."""
    places = [(owner, name) for owner in model.modules() for name, child in owner.named_children() if child is old]
    for owner, name in places:
        setattr(owner, name, new)
    try:
        yield
    finally:
        for owner, name in places:
            setattr(owner, name, old)


CHECKS = (Check("adapters take part", _adapters_reached),)
