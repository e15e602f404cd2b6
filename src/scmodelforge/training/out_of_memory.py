"""Running out of memory, said with numbers and with what to change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import RunError
from scmodelforge.training._memory_use import peak_bytes, total_memory

if TYPE_CHECKING:
    from scmodelforge.training.run import Run

__all__ = ["gib", "is_out_of_memory", "memory_explained", "say_out_of_memory"]

#: What torch says where the exception is a plain RuntimeError: of the CPU's allocator, and of Apple's GPU.
_WORDS = ("DefaultCPUAllocator: can't allocate memory", "MPS backend out of memory", "not enough memory: you tried to")


def is_out_of_memory(problem: BaseException) -> bool:
    """Tell whether an exception says that memory ran out, on a device or on the host."""
    if isinstance(problem, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(problem, RuntimeError) and any(words in str(problem) for words in _WORDS)


@contextmanager
def memory_explained(run: Run) -> Iterator[None]:
    """Turn running out of memory into one message with numbers and with what to change.

    Raises
    ------
    RunError
        Instead of what torch raised.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as problem:
        if not is_out_of_memory(problem):
            raise
        raise RunError(say_out_of_memory(run, problem)) from problem


def say_out_of_memory(run: Run, problem: BaseException) -> str:
    """Return what was too large for which memory, what to change, and where the last checkpoint is."""
    device, batch = run.fabric.device, run.guards.batch
    where = f"out of memory on {device} at step {run.progress.step + 1:,}"
    if batch is None:
        where = f"out of memory on {device} after step {run.progress.step:,}, beside the training steps"
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    peak, total = gib(peak_bytes(device)), gib(total_memory(device))
    lines = [
        f"{where}: {peak} of {total} in use at the peak; {parameters:,} parameters"
        f"{'' if batch is None else f', {_of_batch(run, batch)}'}."
    ]
    lines += [f"  {change}" for change in _changes(run, batch or ())]
    if run.checkpoints is not None:
        run.checkpoints.wait()
        lines.append(f"last checkpoint: {run.checkpoints.last or 'none yet'}")
    lines.append(f"({' '.join(str(problem).split())[:200]})")
    return "\n".join(lines)


def gib(size: float) -> str:
    """Return a number of bytes in words: GiB, MiB or KiB."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size / 2**10:,.1f} KiB"


def _of_batch(run: Run, batch: Sequence[dict[str, Any]]) -> str:
    tokens = [int(np.sum(each["lengths"])) for each in batch if "lengths" in each]
    real = f" ({max(tokens):,} real tokens in the largest)" if tokens else ""
    return f"{run.config.batch_size} cells in a forward pass, {_longest(batch):,} tokens in the longest{real}"


def _longest(batch: Sequence[dict[str, Any]]) -> int:
    shapes = (each["input_ids"].shape for each in batch if "input_ids" in each)
    return max((shape[1] for shape in shapes if len(shape) > 1), default=0)


def _changes(run: Run, batch: Sequence[dict[str, Any]]) -> list[str]:
    config, found = run.config, []
    if isinstance(config.batch_size, int) and config.batch_size > 1:
        half = -(-config.batch_size // 2)
        found.append(
            f"--set training.batch_size={half} --set training.gradient_accumulation="
            f"{config.gradient_accumulation * 2}: half the activations, the same global batch; may be changed to go on"
        )
    if has_checkpointing_off(run.model):
        found.append("--set model.activation_checkpointing=true: blocks computed twice, not kept (in a new run)")
    if run.fabric.device.type == "cuda" and config.precision != "bf16-mixed":
        found.append("--set training.precision=bf16-mixed: activations of half the size (in a new run)")
    longest = _longest(batch)
    if longest > 1:
        found.append(f"--set tokenizer.max_genes={-(-longest // 2)}: shorter sequences, in a new run")
    return found or ["use a smaller model (model.hidden_dim, model.num_layers)"]


def has_checkpointing_off(model: nn.Module) -> bool:
    """Tell whether a model has ``model.activation_checkpointing`` and does not use it."""
    return any(getattr(module, "checkpointing", None) is False for module in model.modules())
