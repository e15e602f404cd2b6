"""Global batches whose cells come from one group, or from several in equal shares: which group has which place."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scmodelforge.data.shares import CellGroups, smallest

__all__ = ["BatchPlan", "Minibatches"]


@dataclass(frozen=True)
class BatchPlan:
    """The global batches of a pass.

    Attributes
    ----------
    ends
        Global position after the last of each batch, shape (M,), int64.
    labels
        Group that each global position is for, shape (N,), unsigned integers.
    """

    ends: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Minibatches:
    """A rule for the groups of a global batch.

    Attributes
    ----------
    groups
        Groups of the training cells.
    kind
        ``one``: all cells of a batch are of one group. A group's cells are divided into as few batches as can be, as
        equally large as can be. ``several``: a batch has cells of ``num_groups`` groups, those with most cells left;
        of fewer if fewer have cells left, of more if these have too few. Their shares are as equal as what is left of
        them allows, so every batch but the last is full.
    batch_size
        Cells of a global batch.
    num_groups
        Groups of a batch with ``several``.
    """

    groups: CellGroups
    kind: Literal["one", "several"]
    batch_size: int
    num_groups: int

    def num_batches(self, sizes: np.ndarray) -> int:
        """Return the number of batches of a pass with so many cells of each group, shape (G,)."""
        return int((-(-(sizes if self.kind == "one" else sizes.sum()) // self.batch_size)).sum())

    def plan(self, sizes: np.ndarray, draws: np.random.Generator) -> BatchPlan:
        """Return the batches of a pass with so many cells of each group, shape (G,), in random order."""
        batches = _of_one(sizes, self.batch_size, draws) if self.kind == "one" else self._of_several(sizes, draws)
        assert len(batches.labels) == sizes.sum()
        return batches

    def _of_several(self, sizes: np.ndarray, draws: np.random.Generator) -> BatchPlan:
        pieces = list(_spread(sizes, self.batch_size, self.num_groups, draws))
        groups = np.array([group for group, _ in pieces], dtype=smallest(len(sizes)))
        labels = np.repeat(groups, [count for _, count in pieces])
        num_full, rest = divmod(len(labels), self.batch_size)
        full = labels[: len(labels) - rest].reshape(num_full, self.batch_size)
        # Within a batch too, so that streams, and with them devices and micro-batches, get cells of all its groups.
        full = draws.permuted(draws.permutation(full), axis=1)
        ends = np.minimum(np.arange(1, num_full + 1 + (rest > 0)) * self.batch_size, len(labels))
        return BatchPlan(ends, np.concatenate([full.ravel(), draws.permutation(labels[len(labels) - rest :])]))


def _of_one(sizes: np.ndarray, batch_size: int, draws: np.random.Generator) -> BatchPlan:
    num_batches = -(-sizes // batch_size)
    groups = np.repeat(np.arange(len(sizes)), num_batches)
    number = np.arange(len(groups)) - np.repeat(np.cumsum(num_batches) - num_batches, num_batches)
    least, larger = np.divmod(sizes[groups], num_batches[groups])
    lengths = least + (number < larger)
    order = draws.permutation(len(groups))
    labels = np.repeat(groups[order].astype(smallest(len(sizes))), lengths[order])
    return BatchPlan(np.cumsum(lengths[order]), labels)


def _spread(
    sizes: np.ndarray, batch_size: int, num_groups: int, draws: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """Yield (group, cells) of each batch in turn; ties between groups of equal size are broken anew every time."""
    ties = _uniforms(draws)
    heap = [(-int(size), next(ties), group) for group, size in enumerate(sizes) if size]
    heapq.heapify(heap)
    while heap:
        chosen: list[tuple[int, float, int]] = []
        there = 0
        while heap and (len(chosen) < num_groups or there < batch_size):
            chosen.append(heapq.heappop(heap))
            there -= chosen[-1][0]
        wanted = min(batch_size, there)
        for number, (negative, _, group) in enumerate(reversed(chosen)):  # smallest first: what it lacks, others give
            count = min(-negative, wanted // (len(chosen) - number))
            wanted -= count
            if count:
                yield group, count
            if count < -negative:
                heapq.heappush(heap, (negative + count, next(ties), group))


def _uniforms(draws: np.random.Generator) -> Iterator[float]:
    while True:
        yield from draws.random(4096).tolist()
