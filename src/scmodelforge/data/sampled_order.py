"""A global order in which groups are seen more or less often, or batches are made of certain groups.

A pass is laid out as follows; each step is a pure function of (seed, pass).

1. A cell that is seen k times is in the first k *copies* of the data. Each copy is cut into blocks of neighbouring
   rows, and the blocks of all copies are permuted together, so the copies of a cell are spread over the pass. Each
   occurrence has a global position, and so draws of its own.
2. If batches are made of certain groups, each group has blocks of its own, and the plan of the batches says which
   group's cell stands at each global position. Every stream takes the cells it needs of a group from a part of the
   group's sequence of its own.
3. Streams, windows and global positions are those of :class:`~scmodelforge.data.sampling.GlobalOrder`. Windows permute
   their cells; between places of the same group, if batches are made of certain groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge.data._kernels import take_rows
from scmodelforge.data.draws import generator
from scmodelforge.data.minibatches import BatchPlan, Minibatches
from scmodelforge.data.sampling import GlobalOrder, _block_bounds
from scmodelforge.data.shares import Draws, smallest

__all__ = ["SampledOrder"]


@dataclass(frozen=True)
class _Pass:
    """A pass as it was laid out: its cells stream after stream, shape (N,), their groups, and its batches."""

    cells: np.ndarray
    labels: np.ndarray | None = None
    plan: BatchPlan | None = None


class SampledOrder(GlobalOrder):
    """A shuffled order with copies of cells, or batches made of certain groups.

    Memory, beside that of :class:`GlobalOrder`: for each cell its group and its place in it, and the cells and groups
    of the two passes in use; 4 bytes a number or less, below 2**32 cells.

    Parameters
    ----------
    source_sizes, positions, seed, block_size, buffer_size, num_streams
        As for :class:`GlobalOrder`.
    draws
        How often each cell is seen; ``None`` once.
    batches
        What makes a batch; ``None`` anything.
    sampling
        Both in words: an order with other words is another order.

    Attributes
    ----------
    draws
        How often each cell is seen.

    Raises
    ------
    ConfigError
        If batches are of one group, and groups are drawn by something else: passes would differ in length.
    """

    def __init__(
        self,
        source_sizes: Sequence[int],
        positions: np.ndarray,
        *,
        draws: Draws | None,
        batches: Minibatches | None,
        sampling: str,
        seed: int,
        block_size: int,
        buffer_size: int,
        num_streams: int,
    ) -> None:
        super().__init__(
            source_sizes,
            positions,
            seed=seed,
            block_size=block_size,
            buffer_size=buffer_size,
            num_streams=num_streams,
            shuffle=True,
        )
        self.sampling = sampling
        self.draws, self._batches = draws, batches
        self._passes: dict[int, _Pass] = {}
        is_one = batches is not None and batches.kind == "one"
        if draws is not None and is_one and not self._is_drawn_alike():
            msg = (
                "data.sampling.minibatch is 'one', and cells are drawn by another column than minibatch_by, so passes "
                "would differ in length; group both by the same column, or use minibatch 'several'."
            )
            raise ConfigError(msg)

    def num_batches(self, batch_size: int) -> int:
        """Return the number of global batches of a pass; it is the same for all passes."""
        if self._batches is None:
            return super().num_batches(batch_size)
        if batch_size != self._batches.batch_size:
            msg = f"the order makes batches of {self._batches.batch_size} cells, the loader of {batch_size}"
            raise ValueError(msg)
        # Drawn by other groups than batches are made of, only 'several' is allowed, where the sum alone counts.
        sizes = self.draws.num_draws if self.draws is not None else self._batches.groups.sizes
        return self._batches.num_batches(sizes)

    def batch_range(self, data_pass: int, batch: int, batch_size: int) -> tuple[int, int]:
        """Return the first global position of a global batch of a pass, and the one after its last."""
        if self._batches is None or self._batches.kind == "several":
            return super().batch_range(data_pass, batch, batch_size)
        plan = self._pass(data_pass).plan
        assert plan is not None
        return int(plan.ends[batch - 1]) if batch else 0, int(plan.ends[batch])

    def _is_drawn_alike(self) -> bool:
        return self.draws is not None and self._batches is not None and self.draws.groups is self._batches.groups

    def _with_streams(self, num_streams: int) -> SampledOrder:
        return SampledOrder(
            self._sizes,
            self.positions,
            draws=self.draws,
            batches=self._batches,
            sampling=self.sampling,
            seed=self.seed,
            num_streams=num_streams,
            **self._settings,
        )

    def _sequence(self, data_pass: int, start: int, stop: int) -> np.ndarray:
        return self._pass(data_pass).cells[start:stop].astype(np.int64)

    def _permuted(self, cells: np.ndarray, data_pass: int, start: int, draws: np.random.Generator) -> np.ndarray:
        labels = self._pass(data_pass).labels
        if labels is None:
            return super()._permuted(cells, data_pass, start, draws)
        here = labels[start : start + len(cells)]
        order = draws.permutation(len(cells))
        permuted = np.empty_like(cells)
        permuted[np.argsort(here, kind="stable")] = cells[order[np.argsort(here[order], kind="stable")]]
        return permuted

    def _pass(self, data_pass: int) -> _Pass:
        if data_pass not in self._passes:
            while len(self._passes) > 1:  # a pass and the next one are in use at a time
                self._passes.pop(min(self._passes))
            self._passes[data_pass] = self._lay_out(data_pass)
        return self._passes[data_pass]

    def _lay_out(self, data_pass: int) -> _Pass:
        cells, groups = self._copies(data_pass)
        bounds = self._cuts(cells, groups)
        order = generator(self.seed, "blocks", data_pass).permutation(len(bounds) - 1)
        if groups is not None:
            order = order[np.argsort(groups[bounds[order]], kind="stable")]
        ends = np.cumsum(np.diff(bounds)[order])
        cells = take_rows(cells, bounds, order, np.concatenate([[0], ends]))
        if self._batches is None or groups is None:
            return _Pass(cells)
        sizes = np.bincount(groups, minlength=len(self._batches.groups.names))
        plan = self._batches.plan(sizes, generator(self.seed, "batches", data_pass))
        labels = np.concatenate([plan.labels[stream :: self.num_streams] for stream in range(self.num_streams)])
        placed = np.empty_like(cells)
        placed[np.argsort(labels, kind="stable")] = cells  # group by group, in each stream after stream
        return _Pass(placed, labels, plan)

    def _copies(self, data_pass: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the cells of a pass by group (if batches need it), copy and position, and their groups."""
        index = np.arange(self.num_cells, dtype=smallest(self.num_cells))
        if self.draws is not None:
            counts = self.draws.counts(data_pass)
            copy = np.arange(self.num_cells) - np.repeat(np.cumsum(counts) - counts, counts)
            index = np.repeat(index, counts)[np.argsort(copy.astype(smallest(int(counts.max()))), kind="stable")]
        groups = None
        if self._batches is not None:
            groups = self._batches.groups.codes[index]
            order = np.argsort(groups, kind="stable")
            index, groups = index[order], groups[order]
        return self.positions[index].astype(smallest(sum(self._sizes))), groups

    def _cuts(self, cells: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        """Return where blocks of a group, copy, file and row // block_size begin, and the end of the last one.

        A copy is a part of the one before it, so where a new one begins positions do not ascend.
        """
        is_cut = np.zeros(len(cells) + 1, dtype=bool)
        is_cut[_block_bounds(cells, self._file_starts, self.block_size)] = True
        is_cut[1:-1] |= cells[1:] <= cells[:-1]
        if groups is not None:
            is_cut[1:-1] |= groups[1:] != groups[:-1]
        return np.flatnonzero(is_cut)
