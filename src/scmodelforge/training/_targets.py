"""Losses as sums over targets: counting, weighting and averaging over micro-batches and processes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from scmodelforge.training.objective import TOTAL, term_counts

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = [
    "StepCounts",
    "TermMeans",
    "all_gather",
    "all_reduce",
    "count_step",
    "to_device",
    "total_counts",
    "weighted_loss",
]


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Return the tensors of a batch on the device, its ``num_targets`` and ``floors``; all else stays on the host."""
    tensors = {
        name: value.to(device, non_blocking=True) for name, value in batch.items() if isinstance(value, torch.Tensor)
    }
    return {**tensors, "num_targets": batch["num_targets"], "floors": batch.get("floors", {})}


@dataclass(frozen=True)
class StepCounts:
    """What one step consists of, over all micro-batches and processes.

    Attributes
    ----------
    cells
        Its cells.
    targets
        Its targets, by loss term.
    num_asking
        Processes that were asked to stop before it.
    """

    cells: int
    targets: dict[str, int]
    num_asking: int


def count_step(fabric: Fabric, micro_batches: Sequence[dict[str, Any]], *, asks_to_stop: bool = False) -> StepCounts:
    """Return the counts of a step, from one sum over all processes."""
    names = sorted(micro_batches[0]["num_targets"])
    numbers = [[_num_cells(batch), *(batch["num_targets"][name] for name in names)] for batch in micro_batches]
    sums = [sum(column) for column in zip(*numbers, strict=True)]
    asking, cells, *targets = total_counts(fabric, [int(asks_to_stop), *sums])
    return StepCounts(cells, term_counts(dict(zip(names, targets, strict=True))), asking)


def weighted_loss(
    terms: dict[str, torch.Tensor], num_targets: dict[str, int], step_counts: dict[str, int]
) -> torch.Tensor:
    """Return a micro-batch's part of the step's loss: each term's mean times its share of the step's targets."""
    counts = term_counts(num_targets)
    return torch.stack([mean * (counts[name] / max(1, step_counts[name])) for name, mean in terms.items()]).sum()


class TermMeans:
    """Means of loss terms, and of their floors where they have one, over the targets of many micro-batches.

    Parameters
    ----------
    num_targets
        The ``num_targets`` of any batch; its names are the terms.
    device
        Where the sums are kept.
    """

    def __init__(self, num_targets: dict[str, int], device: torch.device) -> None:
        terms = sorted(set(num_targets) - {TOTAL})
        self._floors = {name: f"{name}_floor" for name in terms}
        self._names = [TOTAL, *terms, *self._floors.values()]
        dtype = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
        self._sums = torch.zeros(len(self._names), 2, dtype=dtype, device=device)

    def add(self, terms: dict[str, torch.Tensor], batch: dict[str, Any]) -> None:
        """Count the means of a micro-batch."""
        counts = term_counts(batch["num_targets"])
        for name, floor in batch["floors"].items():
            row = self._sums[self._names.index(self._floors[name])]
            row[0] += floor * counts[name]
            row[1] += counts[name]
        for name, mean in terms.items():
            count = counts[name]
            if count:
                row = self._sums[self._names.index(name)]
                row[0] += mean.detach() * count
                row[1] += count

    def reduce(self, fabric: Fabric, *, apart: Collection[str] = ()) -> dict[str, float]:
        """Return the mean of each term that had targets, over all processes, and their sum as ``"loss"``.

        A floor is named after its term with ``_floor``. A term the model did not give is left out. Where all terms are
        apart there is no sum; without any target the result is empty.

        Parameters
        ----------
        fabric
            What knows the processes.
        apart
            Terms that are given but do not count for the sum.
        """
        rows = all_reduce(fabric, self._sums).tolist()
        means = {name: total / count for name, (total, count) in zip(self._names, rows, strict=True) if count}
        losses = [mean for name, mean in means.items() if name not in {*self._floors.values(), *apart}]
        if not losses:
            return {name: mean for name, mean in means.items() if name in apart}
        return {**means, TOTAL: sum(losses)}


def all_reduce(fabric: Fabric, tensor: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over all processes."""
    if fabric.world_size == 1:
        return tensor
    total = tensor.clone()
    torch.distributed.all_reduce(total)  # Fabric's own waits for all processes before, which is as long again
    return total


def all_gather(fabric: Fabric, tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensors of all processes, of the same shape, stacked by process."""
    if fabric.world_size == 1:
        return tensor[None]
    # Fabric's own goes through a function of torch that is deprecated and says so on the terminal.
    parts = [torch.empty_like(tensor) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(parts, tensor.contiguous())
    return torch.stack(parts)


def total_counts(fabric: Fabric, numbers: list[int]) -> list[int]:
    """Return whole numbers added up over all processes; with one process no device is asked."""
    if fabric.world_size == 1:
        return numbers
    return all_reduce(fabric, torch.tensor(numbers, device=fabric.device)).tolist()


def _num_cells(batch: dict[str, Any]) -> int:
    return next(len(value) for value in batch.values() if isinstance(value, torch.Tensor))
