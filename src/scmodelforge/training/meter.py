"""How fast a run is: cells, tokens and FLOPs in a second, and what it waits for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from scmodelforge.training.gpu_peaks import peak_flops

__all__ = ["SPEED", "Meter", "Work", "device_figures", "forget_peak", "work_of"]

_log = logging.getLogger(__name__)

#: Names of the figures that are times or of the machine, and so differ between two runs that are else the same.
SPEED = frozenset(
    {
        "train/cells_per_second",
        "train/tokens_per_second",
        "train/step_seconds",
        "train/data_wait_share",
        "train/mfu",
        "train/memory_gb",
    }
)

#: FLOPs of a step over those of its pass forward: the way back has two matrix products for each.
_STEP_OVER_FORWARD = 3
#: Share of waiting from which on, and time after which, a run is told what to do about it.
_MUCH_WAITING, _A_WHILE = 0.2, 60.0


@dataclass(frozen=True)
class Work:
    """What a step has to do on this process.

    Attributes
    ----------
    tokens
        Real tokens; 0 where cells are no tokens.
    flops
        FLOPs of the model; ``None`` if it does not tell them.
    """

    tokens: int = 0
    flops: int | None = None


def work_of(model: nn.Module, micro_batches: Sequence[dict[str, Any]]) -> Work:
    """Return the work of a step.

    Parameters
    ----------
    model
        The bare model. Its method ``forward_flops``, if it has one, gives the FLOPs of a pass forward on a batch.
    micro_batches
        The batches of the step, on the host.
    """
    masks = [batch["attention_mask"] for batch in micro_batches if "attention_mask" in batch]
    tokens = sum(int((mask != 0).sum()) for mask in masks)
    tell: Callable[[dict[str, Any]], int] | None = getattr(model, "forward_flops", None)
    if tell is None or not masks:
        return Work(tokens)
    # A batch without targets is not computed.
    flops = sum(tell(batch) for batch in micro_batches if any(batch["num_targets"].values()))
    return Work(tokens, _STEP_OVER_FORWARD * flops)


def device_figures(device: torch.device) -> dict[str, float]:
    """Return ``train/memory_gb``, the most memory of a GPU that tensors had so far, in 10^9 bytes; else nothing."""
    return {"train/memory_gb": torch.cuda.max_memory_allocated(device) / 1e9} if device.type == "cuda" else {}


def forget_peak(device: torch.device) -> None:
    """Begin the peak memory of a GPU anew: what was tried before the run is not its own."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


class Meter:
    """Speed and the share of time spent waiting for data, between two readings; and the time left.

    Only steps count for the speed, everything (validation, evaluation, checkpoints) for the time left. A run that
    waits for data much of its time is told so once.

    Parameters
    ----------
    peak
        What all devices together compute at most, in FLOP/s; ``None`` where it is not known, and there is no MFU.
    total
        Adds up numbers over all processes.
    """

    _steps: int
    _cells: int
    _tokens: int
    _flops: int | None
    _seconds: float
    _waited: float

    def __init__(
        self, *, peak: float | None = None, total: Callable[[list[int]], list[int]] = lambda numbers: numbers
    ) -> None:
        self._peak, self._total = peak, total
        self._began = time.perf_counter()
        self._all_steps = 0
        self._long_seconds, self._long_waited, self._has_warned = 0.0, 0.0, False
        self._reset()

    @classmethod
    def of(cls, device: torch.device, world_size: int, **options: Any) -> Meter:
        """Return the meter of a run on so many devices of one kind."""
        peak = peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
        return cls(peak=None if peak is None else peak * world_size, **options)

    def add(self, *, cells: int, seconds: float, waited: float, work: Work | None = None) -> None:
        """Count a step.

        Parameters
        ----------
        cells
            Its cells, over all processes.
        seconds
            How long it took.
        waited
            How much of that the device waited for data.
        work
            What this process had to do.
        """
        work = work or Work()
        self._all_steps += 1
        self._steps += 1
        self._cells += cells
        self._tokens += work.tokens
        self._flops = None if self._flops is None or work.flops is None else self._flops + work.flops
        self._seconds += seconds
        self._waited += waited
        if self._all_steps > 1:  # the first step waits for the first cells in any case
            self._warn_of_waiting(seconds, waited)

    def forget(self, seconds: float) -> None:
        """Leave a time out of what is expected of the steps to come, since it is spent once: that of compiling."""
        self._began += seconds

    def read(self) -> dict[str, float]:
        """Return the figures since the last reading; all processes must call this together.

        They are ``train/cells_per_second``, ``train/data_wait_share``, ``train/step_seconds``, where cells are tokens
        ``train/tokens_per_second``, and where model and device are known ``train/mfu``.
        """
        seconds = max(self._seconds, 1e-9)
        tokens, flops = self._total([self._tokens, self._flops or 0])
        speed = {
            "train/cells_per_second": self._cells / seconds,
            "train/data_wait_share": min(1.0, self._waited / seconds),
            "train/step_seconds": self._seconds / max(1, self._steps),
        }
        if tokens:
            speed["train/tokens_per_second"] = tokens / seconds
        if self._peak is not None and self._flops is not None:
            speed["train/mfu"] = flops / seconds / self._peak
        self._reset()
        return speed

    def seconds_left(self, steps: int) -> float | None:
        """Return the time that some more steps will need, or ``None`` before the first."""
        return steps * (time.perf_counter() - self._began) / self._all_steps if self._all_steps else None

    def _reset(self) -> None:
        self._steps, self._cells, self._tokens = 0, 0, 0
        self._flops = 0
        self._seconds, self._waited = 0.0, 0.0

    def _warn_of_waiting(self, seconds: float, waited: float) -> None:
        self._long_seconds += seconds
        self._long_waited += waited
        if self._long_seconds < _A_WHILE or self._has_warned:
            return
        share = self._long_waited / self._long_seconds
        if share > _MUCH_WAITING:
            self._has_warned = True
            _log.warning(
                f"{share:.0%} of the time of the last steps went into waiting for data; use more threads (--set "
                "data.num_workers=...), or rewrite the files once for fast reading: scmodelforge convert"
            )
        self._long_seconds, self._long_waited = 0.0, 0.0
