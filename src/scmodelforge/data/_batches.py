"""Which cells of its streams a process has in a global batch, and their tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np

from scmodelforge.data._assemble import assemble
from scmodelforge.data._prefetch import Part, Prefetch
from scmodelforge.data._reading import Reading, WindowPlan
from scmodelforge.data.sampling import GlobalOrder
from scmodelforge.data.types import TokenBlock

__all__ = ["Batches"]

#: Cells of a panel that are worth a call of its encoder, and most batches whose cells are encoded together for that.
_CELLS_OF_A_PANEL, _MOST_AT_ONCE = 32, 8
#: Layouts of batches that are remembered: there is one, or as many as batches have sizes and begin at streams.
_LAYOUTS_KEPT = 256


class Batches:
    """Encodes this process's share of global batches.

    Parameters
    ----------
    order
        The global order.
    streams
        The streams of this process.
    reading
        What makes tokens of cells.
    global_batch_size
        Cells of a global batch, over all processes.
    num_micro_batches
        Micro-batches of a global batch on this process.
    world_size
        Number of processes.

    Attributes
    ----------
    per_pass
        Global batches of a pass.
    at_once
        Batches that are best encoded together.
    """

    def __init__(
        self,
        order: GlobalOrder,
        streams: Sequence[int],
        reading: Reading,
        *,
        global_batch_size: int,
        num_micro_batches: int,
        world_size: int,
    ) -> None:
        self._order, self._streams, self._reading = order, streams, reading
        self._size, self._num_micro_batches = global_batch_size, num_micro_batches
        self.per_pass = order.num_batches(global_batch_size)
        wanted = reading.num_panels * _CELLS_OF_A_PANEL
        self.at_once = min(_MOST_AT_ONCE, -(-wanted // (global_batch_size // world_size)))
        self._share = lru_cache(_LAYOUTS_KEPT)(self._share_of)

    def begin(self, windows: Prefetch[WindowPlan], steps: range) -> Callable[[], list[list[TokenBlock]]]:
        """Have some global batches encoded.

        Parameters
        ----------
        windows
            What gives the cells of streams one after another.
        steps
            The batches, counted from the beginning of pass 0.

        Returns
        -------
        What waits for them: this process's share of each, in global order, cut into micro-batches.
        """
        parts: list[Part] = []
        orders, sizes, size = [], [], 0
        for step in steps:
            data_pass, batch = divmod(step, self.per_pass)
            start, stop = self._order.batch_range(data_pass, batch, self._size)
            counts, order = self._share(start % self._order.num_streams, stop - start)
            for stream, count in zip(self._streams, counts, strict=True):
                parts += windows.take(stream, count)
            orders.append(order + size)
            sizes.append(len(order))
            size += len(order)
        return windows.submit(partial(self._encoded, parts, np.concatenate(orders), sizes), parts)

    def _share_of(self, start: int, size: int) -> tuple[list[int], np.ndarray]:
        """Return how many cells of a batch come from each of this process's streams, and the order of all of them.

        Parameters
        ----------
        start
            Position of the batch in the global order, or that modulo the number of streams: it is all the same.
        size
            Cells of the batch, over all processes.
        """
        positions, first = [], self._order.first_element
        for stream in self._streams:
            elements = np.arange(first(stream, start), first(stream, start + size))
            positions.append(elements * self._order.num_streams + stream)
        return [len(each) for each in positions], np.argsort(np.concatenate(positions))

    def _encoded(self, parts: Sequence[Part], order: np.ndarray, sizes: Sequence[int]) -> list[list[TokenBlock]]:
        if not parts:
            return [[self._reading.no_tokens() for _ in range(self._num_micro_batches)] for _ in sizes]
        cells, start = assemble(parts, order, self._reading.encode), 0
        found = []
        for size in sizes:
            micro_batches = np.array_split(np.arange(start, start + size), self._num_micro_batches)
            found.append([cells.part(part) if len(part) else self._reading.no_tokens() for part in micro_batches])
            start += size
        return found
