"""The tensors of a checkpoint: optimiser state by parameter name, generator states by process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from scmodelforge.training import _rng
from scmodelforge.training._sharded import fill_share, is_sharded, read_share, settle
from scmodelforge.training._targets import all_gather

if TYPE_CHECKING:
    from scmodelforge.training.run import Run

__all__ = ["fresh_copy", "gather_streams", "load_tensors", "load_weights", "optimizer_tensors"]

_log = logging.getLogger(__name__)


def fresh_copy(tensor: torch.Tensor) -> torch.Tensor:
    """Return a contiguous copy on the host, in memory of its own."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def gather_streams(run: Run) -> dict[str, torch.Tensor]:
    """Return the generators' states of all processes, as ``rng.<process>.<name>``."""
    streams: dict[str, torch.Tensor] = {}
    for name, state in _rng.snapshot(run.fabric.device).items():
        states = [state]
        if run.fabric.world_size > 1:
            states = list(all_gather(run.fabric, state.to(run.fabric.device)).cpu())
        streams |= {f"rng.{rank}.{name}": value.clone() for rank, value in enumerate(states)}
    return streams


def optimizer_tensors(
    run: Run, copy: Callable[[torch.Tensor], torch.Tensor | None] = fresh_copy
) -> dict[str, torch.Tensor]:
    """Return copies of the optimiser's state as ``<key>.<parameter>``, on the host.

    All processes must call this: of a sharded model each tensor is gathered by itself. ``copy`` gives ``None`` where a
    copy is not wanted.
    """
    tensors = {}
    for name, parameter in _ordered_parameters(run):
        for key, value in run.optimizer.state.get(parameter, {}).items():
            copied = copy(torch.as_tensor(value))
            if copied is not None:
                tensors[f"{key}.{name}"] = copied
    return tensors


def load_tensors(run: Run, path: Path, state: dict[str, Any]) -> None:
    """Restore weights, optimiser state and this process's generators from a checkpoint's folder.

    A process of a sharded run reads its shares, tensor by tensor: the whole is in no process's memory.
    """
    from safetensors import safe_open

    settle(run.model)
    load_weights(run.model, path / "model" / "model.safetensors")
    if run.ema is not None:
        run.ema.adopt(run.model, state["ema"])
    weights = dict(run.model.named_parameters(remove_duplicate=False))
    order = {name: position for position, (name, _) in enumerate(_ordered_parameters(run))}
    moments: dict[int, dict[str, torch.Tensor]] = {}
    streams = {}
    with safe_open(str(path / "state.safetensors"), framework="pt") as file:
        for full in file.keys():  # noqa: SIM118 - it is no mapping
            key, _, name = full.partition(".")
            if key == "rng":
                streams[full] = file.get_tensor(full)
            elif key != "weight":
                moments.setdefault(order[name], {})[key] = read_share(weights[name], file, full)
            elif run.ema is not None:
                fill_share(weights[name], file, full)
    run.optimizer.load_state_dict({"state": moments, "param_groups": run.optimizer.state_dict()["param_groups"]})
    rank, device = run.fabric.global_rank, run.fabric.device
    if run.fabric.world_size != state["world_size"]:
        _log.warning(
            f"{path} is of {state['world_size']} processes, this run has {run.fabric.world_size}: it goes on equally "
            "well, but its random draws (dropout) are not those of the unbroken run"
        )
    # What the checkpoint has no state for (another device, more processes) still starts from a known state.
    _rng.seed_stream(run.config.seed, rank=rank, step=state["progress"]["step"])
    prefix = f"rng.{rank}."
    _rng.restore({n.removeprefix(prefix): tensor for n, tensor in streams.items() if n.startswith(prefix)}, device)


def load_weights(model: nn.Module, path: Path) -> None:
    """Read a model's weights from a safetensors file; a sharded model takes its share of each, one after another.

    Raises
    ------
    RuntimeError
        If the file lacks a weight, or has one of another shape or that the model does not have.
    """
    from safetensors import safe_open
    from safetensors.torch import load_model

    owners = dict(model.named_parameters(remove_duplicate=False))
    if not any(is_sharded(parameter) for parameter in owners.values()):
        load_model(model, str(path), strict=True)
        return
    tensors = {**model.state_dict(), **owners}
    with safe_open(str(path), framework="pt") as file, torch.no_grad():
        there = set(file.keys())
        loaded = {id(tensors[name]) for name in there & set(tensors)}
        lacking = sorted(name for name, tensor in tensors.items() if id(tensor) not in loaded)
        unknown = sorted(there - set(tensors))
        if lacking or unknown:
            msg = f"{path.name} lacks {lacking[:1]} of the model, and the model lacks {unknown[:1]} of the file"
            raise RuntimeError(msg)
        for name in sorted(there):
            fill_share(tensors[name], file, name)


def _ordered_parameters(run: Run) -> list[tuple[str, nn.Parameter]]:
    """Return the optimiser's parameters with their names in the bare model, in the order of its state."""
    names = {id(parameter): name for name, parameter in run.model.named_parameters()}
    parameters = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    return [(names[id(parameter)], parameter) for parameter in parameters]
