"""From the training settings to a Fabric: devices, processes, precision, seeds."""

from __future__ import annotations

import logging
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import TrainingConfig
from scmodelforge.training import _rng
from scmodelforge.training._fsdp import fsdp_strategy
from scmodelforge.training._launch import PATIENCE, check_launcher, watch
from scmodelforge.training.compiling import check_can_compile

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["keep_precision", "make_fabric", "resolve_accelerator", "resolve_precision", "seed_everything"]

_log = logging.getLogger(__name__)


def make_fabric(config: TrainingConfig) -> Fabric:
    """Return the Fabric of the settings, not yet launched.

    Raises
    ------
    ConfigError
        If the settings ask for devices this machine does not have, not for the processes a launcher started, or to
        compile where that is not possible.
    """
    from lightning_fabric import Fabric

    check_launcher(config)
    accelerator = resolve_accelerator(config)
    if config.compile:
        check_can_compile(accelerator)
    precision: Any = resolve_precision(config.precision, accelerator)
    fabric = Fabric(
        accelerator=accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=_strategy(config, accelerator, precision),
        precision=precision,
    )
    watch(fabric)
    return fabric


def resolve_accelerator(config: TrainingConfig) -> str:
    """Return where to train, ``cuda``, ``mps`` or ``cpu``: for ``auto`` the first of these the machine has.

    Raises
    ------
    ConfigError
        If there are fewer devices, or on the CPU fewer cores, than asked for.
    """
    num_gpus = torch.cuda.device_count()
    has_mps = torch.backends.mps.is_available()
    if config.accelerator == "cpu" or (config.accelerator == "auto" and not num_gpus and not has_mps):
        _check_cores(config)
        return "cpu"
    if config.accelerator == "mps" or not num_gpus:
        num_gpus, found = int(has_mps), "mps"
    else:
        found = "cuda"
    if config.devices > num_gpus:
        raise ConfigError(_too_few(config, num_gpus))
    return found


def resolve_precision(precision: str, accelerator: str) -> str:
    """Return ``bf16-mixed`` or ``32-true``: for ``auto`` the former where the hardware computes in bf16.

    That is a GPU with bf16 units, or a processor with bf16 instructions that torch uses; elsewhere bf16 is emulated
    and slower than float32.
    """
    if precision != "auto":
        return precision
    if accelerator == "cuda":
        # AMD's GPUs that torch supports have it; NVIDIA's from Ampere on.
        has_bf16 = torch.version.hip is not None or torch.cuda.get_device_capability()[0] >= 8
    else:
        has_bf16 = accelerator == "cpu" and _cpu_has_bf16()
    return "bf16-mixed" if has_bf16 else "32-true"


def keep_precision(config: TrainingConfig, recorded: str | None) -> None:
    """Have a run that goes on compute as it began, where ``auto`` would be something else on this machine.

    Parameters
    ----------
    config
        Settings; changed in place.
    recorded
        What ``auto`` was when the run began; ``None`` if that is not known.

    Raises
    ------
    ConfigError
        If this machine cannot compute so.
    """
    if config.precision != "auto" or recorded not in ("bf16-mixed", "32-true"):
        return
    accelerator = resolve_accelerator(config)
    here = resolve_precision("auto", accelerator)
    if recorded == here:
        return
    if recorded == "bf16-mixed" and accelerator != "cpu":  # which emulates it
        what = "Apple's GPUs do" if accelerator == "mps" else f"this machine's {torch.cuda.get_device_name()} does"
        msg = (
            f"the run began with training.precision auto, which was {recorded} there, and {what} not compute in bf16; "
            "go on on a machine that does, or on its processors with training.accelerator: cpu in its config.yaml."
        )
        raise ConfigError(msg)
    _log.info(f"training.precision auto stays {recorded}, as when the run began (on this machine it would be {here})")
    config.precision = recorded  # type: ignore[assignment]


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators alike on all processes, so that all make the same weights.

    The draws of training itself (dropout) are started by :func:`scmodelforge.training.loop.fit`, and differ between
    processes.
    """
    _rng.seed(seed)


def _strategy(config: TrainingConfig, accelerator: str, precision: str) -> Any:
    if config.strategy == "fsdp":
        return fsdp_strategy(config, accelerator=accelerator, precision=precision, timeout=PATIENCE)
    if config.strategy == "auto" and config.devices * config.num_nodes == 1:
        return "auto"
    from lightning_fabric.strategies.ddp import DDPStrategy

    # Not every batch reaches every parameter: a head of a model with several losses may find no target.
    backend = "gloo" if accelerator == "cpu" else None
    return DDPStrategy(process_group_backend=backend, timeout=PATIENCE, find_unused_parameters=True)


def _check_cores(config: TrainingConfig) -> None:
    cores = os.cpu_count() or 1
    if config.devices > max(cores, 2):  # two on one core are slow but useful, to try a distributed run
        msg = (
            f"training.devices asks for {config.devices} processes on the CPU but this machine has {cores} cores; "
            f"use --set training.devices={cores}."
        )
        raise ConfigError(msg)


def _too_few(config: TrainingConfig, found: int) -> str:
    has = f"but this machine has {found}"
    if config.accelerator == "gpu":
        mend = f"use --set training.num_gpus={found}" + ("" if found else " to train on the CPU")
        return f"training.num_gpus asks for {config.devices} {_gpus(config.devices)} {has}; {mend}."
    cpu = "--set training.accelerator=cpu"
    mend = f"use --set training.devices={found}, or {cpu} for processes on the CPU" if found else f"use {cpu}"
    what = "mps devices" if config.accelerator == "mps" else _gpus(config.devices)
    return f"training.devices asks for {config.devices} {what} {has}; {mend}."


def _gpus(number: int) -> str:
    return "GPU" if number == 1 else "GPUs"


def _cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether the processor has bf16 instructions and torch's kernels may use them.

    torch's own answers are private and differ between its versions, and oneDNN's counts emulation; the kernel's list
    of the processor's features does not. Systems without that list are taken to have none.
    """
    if not cpuinfo.is_file():
        return False
    flags = set(cpuinfo.read_text(errors="replace").split())
    if platform.machine().lower() in ("aarch64", "arm64"):
        return "bf16" in flags
    # The environment may hold torch down to AVX2 (ATEN_CPU_CAPABILITY).
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and bool(flags & {"avx512_bf16", "amx_bf16"})
