"""The batches of each step, on their way to the device while the step before them is computed.

On a GPU a step is a queue of work that the host has filled long before it is done. In that time the host makes the next
batches and has the first of them copied, beside the computing, from pinned memory; each of the others while the one
before it is computed, so that a step of many micro-batches needs no more room on the device than one of few. Elsewhere
host and device are one, and batches are made when they are needed. What counts as consumed is the loop's affair: a
batch made ahead is not.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from scmodelforge.training.meter import Work

__all__ = ["Copies", "CudaCopies", "Feed", "Group", "copies_to"]

Batches = list[dict[str, Any]]


@dataclass(frozen=True)
class Group:
    """The micro-batches of a step on the host, the work in them, and the first one on its way to the device."""

    micro_batches: Batches
    work: Work
    first: dict[str, Any] | None = None


class Copies(Protocol):
    """Copies to a device that go on beside its computing."""

    def begin(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch as it will be on the device."""
        ...

    def finish(self, batch: dict[str, Any]) -> None:
        """Have the device compute on a begun batch only once it is there."""
        ...

    def is_device_idle(self) -> bool:
        """Tell whether the device has done all it was asked to compute."""
        ...


class CudaCopies:
    """Copies to a GPU by a stream of their own.

    Parameters
    ----------
    device
        The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._asked: deque[torch.cuda.Event] = deque()

    def begin(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the batch with its tensors on the device, whose content is under way.

        The host waits here while it is more than two batches ahead of the device: their memory is not free before.
        """
        self._asked.append(torch.cuda.current_stream(self._device).record_event())
        if len(self._asked) > 1:
            self._asked.popleft().synchronize()
        with torch.cuda.stream(self._stream):
            return {name: self._copy(value) for name, value in batch.items()}

    def finish(self, batch: dict[str, Any]) -> None:
        """Let the current stream wait for the copies, and their memory for the current stream."""
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        for value in batch.values():
            if isinstance(value, torch.Tensor):
                value.record_stream(current)

    def is_device_idle(self) -> bool:
        """Tell whether the current stream is empty."""
        return torch.cuda.current_stream(self._device).query()

    def _copy(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.is_cuda:
            return value
        return value.pin_memory().to(self._device, non_blocking=True)


def copies_to(device: torch.device) -> Copies | None:
    """Return what copies to a device beside its computing, or ``None`` where nothing does."""
    return CudaCopies(device) if device.type == "cuda" else None


class Feed:
    """The micro-batches of step after step, in the order of the loader, each once.

    Parameters
    ----------
    batches
        The loader's iteration.
    measure
        Tells the work in the batches of a step; called with those of the host.
    copies
        What copies them to the device; ``None`` hands them out as they are.
    most
        Steps to come: nothing is made ahead for those after them.

    Attributes
    ----------
    hidden_seconds
        Time the loader took while the device was computing: nobody waited for it.
    """

    def __init__(
        self,
        batches: Iterator[Batches],
        *,
        measure: Callable[[Batches], Work],
        copies: Copies | None,
        most: int,
    ) -> None:
        self._batches, self._measure, self._copies, self._most = batches, measure, copies, most
        self._taken = 0
        self._next: Group | None = None
        self._is_prepared = False
        self._problem: Exception | None = None
        self.hidden_seconds, self._last_seconds = 0.0, 0.0

    def take(self) -> Group | None:
        """Return the batches of the next step, to be gone through :meth:`on_device`; ``None`` at the end.

        Whatever went wrong when they were made is raised here, so in the step that needs them.
        """
        if not self._is_prepared:
            self._next = self._make()
        group, problem = self._next, self._problem
        self._next, self._problem, self._is_prepared = None, None, False
        if problem is not None:
            raise problem
        self._taken += 1
        return group

    def on_device(self, group: Group) -> Iterator[dict[str, Any]]:
        """Yield the micro-batches of a step, to be used on the current stream; the next one is on its way meanwhile."""
        if self._copies is None:
            yield from group.micro_batches
            return
        current = group.first or self._copies.begin(group.micro_batches[0])
        for following in group.micro_batches[1:]:
            ahead = self._copies.begin(following)
            self._copies.finish(current)
            yield current
            current = ahead
        self._copies.finish(current)
        yield current

    def prepare(self) -> None:
        """Make the next batches, if the device is computing meanwhile; call it when a step is on its way."""
        if self._copies is None or self._is_prepared or self._taken >= self._most:
            return
        try:
            self._next = self._make()
        except Exception as problem:  # of whatever the loader runs into; it belongs to the next step
            self._problem = problem
        self._is_prepared = True
        if not self._copies.is_device_idle():
            self.hidden_seconds += self._last_seconds

    def _make(self) -> Group | None:
        began = time.perf_counter()
        try:
            batches = next(self._batches, None)
        finally:
            self._last_seconds = time.perf_counter() - began
        if batches is None:
            return None
        work = self._measure(batches)
        return Group(batches, work, None if self._copies is None else self._copies.begin(batches[0]))
