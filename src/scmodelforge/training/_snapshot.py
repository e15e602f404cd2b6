"""A run at one step, on the host and apart from the run: what a checkpoint is written from.

Taking a snapshot is all that a checkpoint needs of the run and of the other processes. Writing it can go on beside
the training.
"""

from __future__ import annotations

import copy
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from scmodelforge import __version__
from scmodelforge.training._host import HostCopies
from scmodelforge.training._sharded import is_sharded, settle, whole
from scmodelforge.training._tensors import fresh_copy, gather_streams, optimizer_tensors
from scmodelforge.training.ema import averaged

if TYPE_CHECKING:
    from scmodelforge.training.run import Progress, Run

__all__ = ["Snapshot", "model_weights", "named_callbacks", "take_snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """All that a checkpoint holds. Nothing in it changes when the run goes on.

    Attributes
    ----------
    progress
        How far the run was.
    weights
        Weights of the model to be used, by the bare model's names, on the host; tied ones once. Averaged ones, if the
        run averages them.
    tensors
        What ``state.safetensors`` holds; beside averaged weights those that are trained, as ``weight.<name>``.
    state
        What ``state.json`` holds.
    """

    progress: Progress
    weights: dict[str, torch.Tensor]
    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]

    @property
    def num_bytes(self) -> int:
        """What its tensors need on a disk."""
        return sum(tensor.nbytes for tensor in (*self.weights.values(), *self.tensors.values()))


def take_snapshot(run: Run, *, config_hash: str, memory: HostCopies | None = None) -> Snapshot | None:
    """Return the run as it is, on the first process; all processes must call this, the others get ``None``.

    Parameters
    ----------
    run
        A run between two steps.
    config_hash
        Identity of the run's settings.
    memory
        Where the copies go; those of the snapshot before it are overwritten. ``None`` takes fresh memory.
    """
    memory = memory or HostCopies()
    memory.restart()
    streams = gather_streams(run)
    settle(run.model)
    is_first = run.fabric.is_global_zero

    def copied(tensor: torch.Tensor) -> torch.Tensor | None:
        full: torch.Tensor = whole(tensor.detach())  # of shares: all processes take part, tensor by tensor
        return memory.copy(full) if is_first else None

    moments, raw = optimizer_tensors(run, copied), _raw_weights(run, copied)
    with averaged(run):
        weights = model_weights(run.model, copied)
        memory.wait()
    if not is_first:
        return None
    state = copy.deepcopy(_state(run, config_hash))
    return Snapshot(copy.copy(run.progress), weights, {**moments, **raw, **streams}, state)


def model_weights(
    model: nn.Module, copy: Callable[[torch.Tensor], torch.Tensor | None] = fresh_copy
) -> dict[str, torch.Tensor]:
    """Return copies of a model's weights and buffers on the host, tied ones once, under the first name in order.

    Parameters
    ----------
    model
        Of a sharded one each weight is gathered by itself; all processes must call this.
    copy
        Makes the copy of a tensor, or ``None`` where it is not wanted.
    """
    found: dict[str, torch.Tensor] = {}
    owners = {name: id(parameter) for name, parameter in model.named_parameters(remove_duplicate=False)}
    seen: set[tuple[int, torch.Size, tuple[int, ...]]] = set()
    for name, tensor in sorted(model.state_dict().items()):
        # A share may be empty, and then has no place in memory.
        start = owners[name] if is_sharded(tensor) else tensor.data_ptr()
        place = (start, tensor.shape, tensor.stride())
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        copied = copy(tensor)
        if copied is not None:
            found[name] = copied
    return found


def named_callbacks(callbacks: Sequence[Any]) -> list[tuple[str, Any]]:
    """Return callbacks with names: their class, numbered where there are several."""
    seen: dict[str, int] = {}
    named = []
    for callback in callbacks:
        name = type(callback).__name__
        seen[name] = seen.get(name, 0) + 1
        named.append((name if seen[name] == 1 else f"{name}-{seen[name]}", callback))
    return named


def _state(run: Run, config_hash: str) -> dict[str, Any]:
    return {
        "format_version": 1,
        "config_hash": config_hash,
        "progress": asdict(run.progress),
        "validation": {"step": run.validation_step, "metrics": _as_json(run.validation)},
        "scheduler": run.scheduler.state_dict(),
        "loader": run.train_loader.state_dict(),
        "ema": None if run.ema is None else run.ema.state_dict(),
        "guards": run.guards.state_dict(),
        "callbacks": {name: c.state_dict() for name, c in named_callbacks(run.callbacks) if hasattr(c, "state_dict")},
        "world_size": run.fabric.world_size,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scmodelforge": __version__,
        },
    }


def _raw_weights(run: Run, copy: Callable[[torch.Tensor], torch.Tensor | None]) -> dict[str, torch.Tensor]:
    """Return the parameters that are trained, where averages of them are the weights to be used."""
    if run.ema is None or not run.ema.has_begun:
        return {}
    parameters = {name for name, _ in run.model.named_parameters(remove_duplicate=False)}
    return {f"weight.{name}": tensor for name, tensor in model_weights(run.model, copy).items() if name in parameters}


def _as_json(metrics: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
