"""The objective of a sharded model: every process computes in every micro-batch, whether it has targets or not.

A sharded model gathers its weights from all processes while it computes. One that has nothing to compute, such as a
process without cells of the last batch of a pass, would leave the others waiting; it runs another batch in place of
its own and drops what comes out.
"""

from __future__ import annotations

import json
from typing import Any

import torch

from scmodelforge.training import _rng
from scmodelforge.training.objective import TOTAL, Objective

__all__ = ["ShardedObjective"]


class ShardedObjective(Objective):
    """As :class:`~scmodelforge.training.objective.Objective`, of a model whose processes hold shares of it."""

    _stand_in: dict[str, Any] | None = None

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the mean of each loss term over its targets in this batch, float32 scalars.

        All processes must call this equally often. Where a process has no target the result is ``{"loss": 0}`` with a
        graph of the model's collectives; the draws of its stand-in leave no trace.
        """
        has_targets = any(batch["num_targets"].values())
        if self._stand_in is None:
            self._stand_in = _any_with_targets(batch if has_targets else None, batch)
        if has_targets:
            return self._reaching_all(super().forward(batch))
        if self._stand_in is None:  # no process has a target: none runs the model
            return {TOTAL: self._zero()}
        with _rng.preserved(_device_of(batch)):
            terms = self._reaching_all(super().forward(self._stand_in))
        return {TOTAL: 0.0 * torch.stack(list(terms.values())).sum()}

    def _reaching_all(self, terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the terms with a graph to all parameters that are gathered in bf16 just now.

        torch gives those that a step does not reach a gradient of zero in bf16, and over accumulated gradients, which
        are in float32, refuses to sum up both together. In float32 nothing is added.
        """
        gathered = [p for p in self.parameters() if p.requires_grad and p.dtype != torch.float32]
        if not gathered or not torch.is_grad_enabled():
            return terms
        nothing = torch.stack([p.reshape(-1)[:0].sum() for p in gathered]).sum().float()
        return {name: mean + nothing for name, mean in terms.items()}

    def _zero(self) -> torch.Tensor:
        """Return 0 with a graph to nothing; sharding itself sees to parameters that a step does not reach."""
        return torch.zeros((), device=next(self.parameters()).device, requires_grad=torch.is_grad_enabled())


def _any_with_targets(own: dict[str, Any] | None, batch: dict[str, Any]) -> dict[str, Any] | None:
    """Return this process's batch with targets, else that of the first process that has one, else ``None``."""
    device = _device_of(batch)
    world_size, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    has = torch.zeros(world_size, dtype=torch.int64, device=device)
    has[rank] = own is not None
    torch.distributed.all_reduce(has)
    if has.all() or not has.any():
        return own
    source = int(has.argmax())
    there = _broadcast(own if rank == source else None, source, device)
    return own or there


def _broadcast(batch: dict[str, Any] | None, source: int, device: torch.device) -> dict[str, Any]:
    """Return the batch of one process on all of them: first what it is made of, as JSON, then its tensors."""
    tensors = {name: value for name, value in (batch or {}).items() if isinstance(value, torch.Tensor)}
    head = b""
    if batch is not None:
        forms = {name: [str(value.dtype).removeprefix("torch."), list(value.shape)] for name, value in tensors.items()}
        rest = {name: value for name, value in batch.items() if name not in tensors}
        head = json.dumps({"forms": forms, "rest": rest}).encode()
    size = torch.tensor([len(head)], device=device)
    torch.distributed.broadcast(size, src=source)
    text = torch.zeros(int(size), dtype=torch.uint8, device=device)
    if batch is not None:
        text.copy_(torch.frombuffer(bytearray(head), dtype=torch.uint8))
    torch.distributed.broadcast(text, src=source)
    facts = json.loads(bytes(text.tolist()))
    there = dict(facts["rest"])
    for name, (dtype, shape) in facts["forms"].items():
        value = torch.empty(shape, dtype=getattr(torch, dtype), device=device)
        if batch is not None:
            value.copy_(tensors[name])
        if value.numel():
            torch.distributed.broadcast(value.view(-1).view(torch.uint8), src=source)  # any type, by its bytes
        there[name] = value
    return there


def _device_of(batch: dict[str, Any]) -> torch.device:
    return next(value.device for value in batch.values() if isinstance(value, torch.Tensor))
