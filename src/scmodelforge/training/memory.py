"""What a training step needs of memory, term by term, measured on a small scale.

Weights, gradients and optimiser state are counted. What a cell adds (activations, and all that is allocated on the
way) is measured: a forward and a backward pass on few cells and on twice as many, of which the difference of the
peaks is taken. On a GPU the peaks are the allocator's; on the CPU they are those of all tensors that are alive,
without what kernels need inside.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scmodelforge.training._targets import to_device

__all__ = ["LiveTensors", "StepMemory", "Trial", "measure_memory"]

#: Cells of the smaller of the two passes that are compared.
_FEW = 2


@dataclass(frozen=True)
class StepMemory:
    """Memory of a training step, in bytes.

    Attributes
    ----------
    weights, gradients, optimizer
        Parameters and buffers, their gradients, and what the optimiser keeps of them.
    per_cell
        What each cell of a forward pass adds, at ``num_tokens`` tokens.
    logits_per_cell
        The largest tensor over the vocabulary among it; 0 if there is none.
    other
        What neither grows with the cells nor is one of the above.
    num_tokens
        Length of the sequences that were measured.
    """

    weights: int
    gradients: int
    optimizer: int
    per_cell: int
    logits_per_cell: int
    other: int
    num_tokens: int

    @property
    def fixed(self) -> int:
        """Bytes that do not depend on the number of cells."""
        return self.weights + self.gradients + self.optimizer + self.other

    def of(self, num_cells: int) -> int:
        """Return the bytes of a step whose forward passes have so many cells."""
        return self.fixed + self.per_cell * num_cells

    def to_dict(self, num_cells: int) -> dict[str, int]:
        """Return the terms for forward passes of so many cells, and their sum as ``total``."""
        terms = asdict(self)
        per_cell, logits, length = terms.pop("per_cell"), terms.pop("logits_per_cell"), terms.pop("num_tokens")
        return {
            **terms,
            "activations": (per_cell - logits) * num_cells,
            "logits": logits * num_cells,
            "total": self.of(num_cells),
            "tokens_per_cell": length,
        }


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that are made inside and still alive.

    Parameters
    ----------
    vocab_size
        Last dimension of the tensors that count as logits.

    Attributes
    ----------
    alive, peak
        Bytes now and at most.
    logits
        Bytes of the largest tensor over the vocabulary.
    """

    def __init__(self, vocab_size: int | None = None) -> None:
        super().__init__()
        self.alive = self.peak = self.logits = 0
        self._vocab_size = vocab_size
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(_storage(each)) for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and id(_storage(tensor)) not in given:
                self._count(tensor)
        return out

    def _count(self, tensor: torch.Tensor) -> None:
        storage = _storage(tensor)
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, key, size).atexit = False
        if tensor.ndim > 1 and tensor.shape[-1] == self._vocab_size:
            self.logits = max(self.logits, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size


@dataclass
class Trial:
    """A model and its optimiser to be tried out; nothing of them is used in training.

    Attributes
    ----------
    objective, optimizer
        On the device.
    make_batch
        Returns a batch of so many of the longest cells, on the host.
    device
        Where to try.
    autocast
        Makes the context of the precision.
    vocab_size
        Number of tokens.
    """

    objective: nn.Module
    optimizer: torch.optim.Optimizer
    make_batch: Callable[[int], dict[str, Any]]
    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]
    vocab_size: int | None

    def step(self, num_cells: int) -> None:
        """Go forward and backward on so many cells and take a step; the gradients stay, as in accumulation."""
        self.backward(num_cells)
        self.optimizer.step()

    def backward(self, num_cells: int) -> None:
        """Go forward and backward on so many cells."""
        batch = to_device(self.make_batch(num_cells), self.device)
        tell_step = getattr(getattr(self.objective, "model", None), "set_step", None)
        if tell_step is not None:
            tell_step(0)
        with self.autocast():
            terms = self.objective(batch)
        torch.stack(list(terms.values())).sum().backward()

    def peak(self, action: Callable[[], None]) -> tuple[int, int]:
        """Return the bytes that an action needs at most beside what there was, and those of its largest logits."""
        gc.collect()
        if self.device.type != "cuda":
            with LiveTensors(self.vocab_size) as live:
                action()
            return live.peak, live.logits
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        action()
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - before, 0


def measure_memory(trial: Trial, *, num_processes: int = 1, keeps_averages: bool = False) -> StepMemory:
    """Measure what a step needs.

    Parameters
    ----------
    trial
        What to try; its weights are changed.
    num_processes
        Processes of the run: with several, gradients are kept a second time to be sent.
    keeps_averages
        Whether averages of the weights are kept (``training.ema``).
    """
    trial.step(1)
    stepping, _ = trial.peak(trial.optimizer.step)
    few, _ = trial.peak(lambda: trial.backward(_FEW))
    many, logits = trial.peak(lambda: trial.backward(2 * _FEW))
    if trial.device.type == "cuda":
        with LiveTensors(trial.vocab_size) as live:
            trial.backward(_FEW)
        logits = 2 * live.logits
    per_cell = max(0, many - few) // _FEW
    model = trial.objective
    gradients = sum(_bytes(p.grad) for p in model.parameters() if p.grad is not None)
    # Averages in single precision, and while they are in use the weights they stand for.
    averages = 2 * sum(4 * p.numel() for p in model.parameters()) if keeps_averages else 0
    state = [value for values in trial.optimizer.state.values() for value in values.values()]
    rest = max(0, few - _FEW * per_cell, stepping) + (gradients if num_processes > 1 else 0) + averages
    return StepMemory(
        weights=sum(_bytes(tensor) for tensor in [*model.parameters(), *model.buffers()]),
        gradients=gradients,
        optimizer=sum(_bytes(value) for value in state if isinstance(value, torch.Tensor)),
        per_cell=per_cell,
        logits_per_cell=min(per_cell, logits // (2 * _FEW)),
        other=rest,
        num_tokens=_length(trial.make_batch(1)),
    )


def _length(batch: dict[str, Any]) -> int:
    lengths = batch.get("lengths")
    return 0 if lengths is None or not len(lengths) else int(max(lengths))


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _storage(tensor: torch.Tensor) -> Any:
    return tensor.untyped_storage()
