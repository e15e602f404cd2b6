"""A model and its optimiser brought onto the devices of a Fabric."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from scmodelforge.training._fsdp import build_for, shards
from scmodelforge.training._sharded_objective import ShardedObjective
from scmodelforge.training.compiling import compile_blocks
from scmodelforge.training.objective import Objective

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["set_up"]


def set_up(
    fabric: Fabric,
    build: Callable[[], nn.Module],
    optimizer_of: Callable[[nn.Module], torch.optim.Optimizer],
    *,
    compiles: bool = False,
) -> tuple[Any, Any]:
    """Return the objective and the optimiser of a model, as a :class:`~scmodelforge.training.run.Run` takes them.

    Parameters
    ----------
    fabric
        A launched Fabric.
    build
        Makes the model, with the same weights on every process. Of a sharded model the first process alone makes the
        weights.
    optimizer_of
        Makes the optimiser of the model on its device, which may hold a share of each parameter.
    compiles
        Whether steps of training are compiled.
    """
    model = build_for(fabric, build)
    if compiles:
        compile_blocks(model)
    objective = fabric.setup_module(ShardedObjective(model) if shards(fabric) else Objective(model))
    wrapped: Any = objective
    return objective, fabric.setup_optimizers(optimizer_of(wrapped.module.model))
