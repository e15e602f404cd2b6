"""The tensors of a checkpoint: optimiser state by parameter name, generator states by process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from scmodelforge.training import _rng
from scmodelforge.training._sharded import is_sharded, settle, share_of

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
            gathered: Any = run.fabric.all_gather(state.to(run.fabric.device))
            states = list(gathered.cpu())
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
    """Restore weights, optimiser state and this process's generators from a checkpoint's folder."""
    from safetensors.torch import load_file

    tensors = load_file(str(path / "state.safetensors"))
    settle(run.model)
    load_weights(run.model, path / "model" / "model.safetensors")
    raw = {name.removeprefix("weight."): tensors.pop(name) for name in list(tensors) if name.startswith("weight.")}
    if run.ema is not None:
        run.ema.adopt(run.model, state["ema"])
        _put_back(run.model, raw)
    parameters = _ordered_parameters(run)
    order = {name: position for position, (name, _) in enumerate(parameters)}
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for full, tensor in tensors.items():
        key, _, name = full.partition(".")
        if key != "rng":
            parameter = parameters[order[name]][1]
            is_alike = tensor.shape == parameter.shape  # the number of steps is not
            moments.setdefault(order[name], {})[key] = share_of(tensor, parameter) if is_alike else tensor
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
    _rng.restore({n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)}, device)


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
            full = file.get_tensor(name)
            if full.shape != tensors[name].shape:
                msg = f"{name} has shape {tuple(full.shape)} in {path.name}, {tuple(tensors[name].shape)} in the model"
                raise RuntimeError(msg)
            tensors[name].copy_(share_of(full, tensors[name]))


@torch.no_grad()
def _put_back(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Give parameters their values, of which tied ones come once; a sharded model takes its share of each."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, value in weights.items():
        parameters[name].copy_(share_of(value, parameters[name]))


def _ordered_parameters(run: Run) -> list[tuple[str, nn.Parameter]]:
    """Return the optimiser's parameters with their names in the bare model, in the order of its state."""
    names = {id(parameter): name for name, parameter in run.model.named_parameters()}
    parameters = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    return [(names[id(parameter)], parameter) for parameter in parameters]
