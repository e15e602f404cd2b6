"""Fully sharded training (FSDP2, ``torch.distributed.fsdp.fully_shard``) of any registered model.

The repeated blocks of a model are one group of parameters each, all else is one more: before a group computes, its
parameters are gathered, afterwards they are dropped again, and gradients travel as shares. What the groups are is found
without the model's help; a model may name them as ``blocks_to_shard``.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import TrainingConfig
from scmodelforge.training._sharded import is_sharded

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch.distributed.device_mesh import DeviceMesh

__all__ = ["blocks_to_shard", "build_for", "fsdp_strategy", "shard_model", "shards"]

_log = logging.getLogger(__name__)


def fsdp_strategy(config: TrainingConfig, *, accelerator: str, precision: str, timeout: timedelta) -> Any:
    """Return Fabric's strategy for sharded training over all devices of all nodes.

    Raises
    ------
    ConfigError
        If torch or the accelerator cannot do it.
    """
    from lightning_fabric.strategies.model_parallel import ModelParallelStrategy

    _check(accelerator)
    options: dict[str, Any] = {"mixes": precision == "bf16-mixed", "offloads": config.fsdp.cpu_offload}
    # Gradients that lie on the host are summed up there.
    of_gpus = "cpu:gloo,cuda:nccl" if config.fsdp.cpu_offload else None
    strategy = ModelParallelStrategy(
        partial(_shard_objective, **options),
        data_parallel_size=config.devices * config.num_nodes,
        tensor_parallel_size=1,
        process_group_backend="gloo" if accelerator == "cpu" else of_gpus,
        timeout=timeout,
    )
    # For models beside the one that is trained, such as the untrained one it is compared with.
    strategy.shard_options = options  # type: ignore[attr-defined]
    return strategy


def shards(fabric: Fabric) -> bool:
    """Tell whether the processes of a Fabric hold shares of a model."""
    return hasattr(fabric.strategy, "shard_options")


def build_for(fabric: Fabric, build: Callable[[], nn.Module]) -> nn.Module:
    """Return a model, of which all processes but the first hold no numbers where it is sharded.

    The first process draws all weights in one go, as a run of one process does, so they are the same for a seed;
    sharding hands them out block by block. So the host of the first process alone has the whole model in its memory.
    A model that cannot be made without numbers is made with them by every process.
    """
    if not shards(fabric) or fabric.global_rank == 0:
        return build()
    try:
        with torch.device("meta"):
            model = build()
    except (NotImplementedError, RuntimeError) as problem:
        _log.info(f"every process makes the whole model, which needs its numbers while it is made ({problem})")
        return build()
    return build() if _has_stray_tensors(model) else model


def shard_model(fabric: Fabric, model: nn.Module) -> nn.Module:
    """Return a model for the devices: sharded by a strategy that shards, else moved there."""
    if not shards(fabric):
        return model.to(fabric.device)
    strategy: Any = fabric.strategy
    return _shard(model, strategy.device_mesh, **strategy.shard_options)


def blocks_to_shard(model: nn.Module) -> list[nn.Module]:
    """Return the repeated blocks of a model: the outermost lists' elements that are of one class and have parts.

    Left out is what shares a parameter with anything else in the model (a head tied to an embedding). A model whose
    blocks are not found so names them itself, as ``blocks_to_shard``; every one must run in every forward pass.
    """
    named = getattr(model, "blocks_to_shard", None)
    found = list(named) if named is not None else list(_repeated(model))
    own = [{id(parameter) for parameter in block.parameters()} for block in found]
    users = Counter(key for keys in own for key in keys)
    users.update(_outside(model, {id(block) for block in found}))
    return [block for block, keys in zip(found, own, strict=True) if keys and all(users[key] == 1 for key in keys)]


def _outside(module: nn.Module, blocks: set[int]) -> set[int]:
    """Return the ids of the parameters that are reached without going through a block."""
    if id(module) in blocks:
        return set()
    own = {id(parameter) for parameter in module._parameters.values() if parameter is not None}
    return own.union(*(_outside(child, blocks) for child in module.children()))


def _repeated(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        elements = list(child) if isinstance(child, nn.ModuleList) else []
        # A list of single layers may be of heads, of which a step uses some.
        is_stack = len({type(each) for each in elements}) == 1 and all(any(each.children()) for each in elements)
        if is_stack:
            yield from elements
        else:
            yield from _repeated(child)


def _shard_objective(objective: nn.Module, mesh: DeviceMesh, *, mixes: bool, offloads: bool) -> nn.Module:
    """Shard the model inside an objective, which has no parameters of its own."""
    model: Any = objective.model
    _shard(model, mesh, mixes=mixes, offloads=offloads)
    return objective


def _shard(model: nn.Module, mesh: DeviceMesh, *, mixes: bool, offloads: bool) -> nn.Module:
    from torch.distributed.fsdp import (
        CPUOffloadPolicy,
        MixedPrecisionPolicy,
        OffloadPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    # Autocast decides on the numbers that come in: values and counts must not be rounded to bf16.
    dtypes = {"param_dtype": torch.bfloat16, "reduce_dtype": torch.float32} if mixes else {}
    policies: dict[str, Any] = {
        "mesh": mesh["data_parallel"],
        "mp_policy": MixedPrecisionPolicy(**dtypes, cast_forward_inputs=False),
        "offload_policy": CPUOffloadPolicy(pin_memory=mesh.device_type == "cuda") if offloads else OffloadPolicy(),
    }
    # A cell embedding may be a view of hidden states; nothing here changes what a model returned.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    is_gpu = mesh.device_type == "cuda"
    device = torch.device("cuda", torch.cuda.current_device()) if is_gpu else torch.device(mesh.device_type)
    for group in [*blocks_to_shard(model), model]:
        _receive(group, device)
        fully_shard(group, **policies)
    # Not every batch reaches every parameter, and processes must agree on what they sum up.
    model.set_reduce_scatter_unused_params(True)  # type: ignore[operator]
    for method in ("encode", "score_cell_types"):
        if hasattr(model, method):
            register_fsdp_forward_method(model, method)
    return model


def _receive(group: nn.Module, device: torch.device) -> None:
    """Give the tensors of a group that are not shared out yet the numbers of the first process, on the device."""
    received: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # with what was there before, of which ids are
    for module in group.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None or is_sharded(tensor):
                    continue
                if id(tensor) not in received:
                    received[id(tensor)] = (tensor, _of_first_process(tensor, device))
                tensors[name] = received[id(tensor)][1]  # type: ignore[assignment]


def _of_first_process(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    numbers = torch.empty_like(tensor, device=device) if tensor.is_meta else tensor.detach().to(device)
    torch.distributed.broadcast(numbers, src=0)
    is_parameter = isinstance(tensor, nn.Parameter)
    return nn.Parameter(numbers, requires_grad=tensor.requires_grad) if is_parameter else numbers


def _has_stray_tensors(model: nn.Module) -> bool:
    """Tell whether a model keeps tensors that are neither parameters nor buffers, which no process could hand out."""
    return any(isinstance(v, torch.Tensor) and v.is_meta for module in model.modules() for v in vars(module).values())


def _check(accelerator: str) -> None:
    if accelerator == "mps":
        msg = "training.strategy is fsdp, which Apple's GPUs cannot do; use --set training.strategy=auto."
        raise ConfigError(msg)
    try:
        from torch.distributed.fsdp import FSDPModule
    except ImportError:
        is_known = False
    else:
        is_known = hasattr(FSDPModule, "set_reduce_scatter_unused_params")
    if not is_known:
        msg = (
            f"training.strategy is fsdp, for which torch {torch.__version__} is too old (2.13 will do); "
            "pip install -U torch, or use --set training.strategy=ddp."
        )
        raise ConfigError(msg)
