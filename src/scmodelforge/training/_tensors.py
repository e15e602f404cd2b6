"""The tensors of a checkpoint: optimiser state by parameter name, generator states by process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from scmodelforge.training import _rng

if TYPE_CHECKING:
    from scmodelforge.training.run import Run

__all__ = ["fresh_copy", "gather_streams", "load_tensors", "optimizer_tensors"]

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


def optimizer_tensors(run: Run, copy: Callable[[torch.Tensor], torch.Tensor] = fresh_copy) -> dict[str, torch.Tensor]:
    """Return copies of the optimiser's state as ``<key>.<parameter>``, on the host."""
    tensors = {}
    for name, parameter in _ordered_parameters(run):
        for key, value in run.optimizer.state.get(parameter, {}).items():
            tensors[f"{key}.{name}"] = copy(torch.as_tensor(value))
    return tensors


def load_tensors(run: Run, path: Path, state: dict[str, Any]) -> None:
    """Restore weights, optimiser state and this process's generators from a checkpoint's folder."""
    from safetensors.torch import load_file, load_model

    tensors = load_file(str(path / "state.safetensors"))
    load_model(run.model, str(path / "model" / "model.safetensors"), strict=True)
    raw = {name.removeprefix("weight."): tensors.pop(name) for name in list(tensors) if name.startswith("weight.")}
    if run.ema is not None:
        run.ema.adopt(run.model, state["ema"])
        if raw:
            run.model.load_state_dict(raw, strict=False)  # tied ones stand there once
    order = {name: position for position, (name, _) in enumerate(_ordered_parameters(run))}
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for full, tensor in tensors.items():
        key, _, name = full.partition(".")
        if key != "rng":
            moments.setdefault(order[name], {})[key] = tensor
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


def _ordered_parameters(run: Run) -> list[tuple[str, nn.Parameter]]:
    """Return the optimiser's parameters with their names in the bare model, in the order of its state."""
    names = {id(parameter): name for name, parameter in run.model.named_parameters()}
    parameters = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    return [(names[id(parameter)], parameter) for parameter in parameters]
