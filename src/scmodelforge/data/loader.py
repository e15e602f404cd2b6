"""From a source to the batches of one process: reads, preprocesses and tokenises the global order, and can resume.

The batches depend on (seed, pass, batch) alone: not on the number of threads, and, for numbers of processes that divide
the number of streams, a global batch is the same set of cells for every number of processes. Threads share the
reading and tokenising of windows; a window of each stream and a few more are in memory.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from copy import copy
from types import TracebackType
from typing import Any

from scmodelforge._errors import ConfigError, require_whole
from scmodelforge.data._batches import Batches
from scmodelforge.data._kernels import warm_up
from scmodelforge.data._prefetch import Prefetch
from scmodelforge.data._reading import Reading, WindowPlan, plans_by_need
from scmodelforge.data.protocols import BlockEncoder, CellSource
from scmodelforge.data.sampling import GlobalOrder
from scmodelforge.data.types import CellBlock, TokenBlock

__all__ = ["CellLoader"]

#: Cells from which on compiled loops will be needed at once.
_MANY_CELLS = 8192
_STATE_NAMES = {
    "seed": "training.seed",
    "num_streams": "the number of streams (data.num_streams, raised to a multiple of the number of devices)",
    "global_batch_size": "the global batch (training.batch_size x gradient_accumulation x all devices)",
    "num_cells": "the number of training cells",
    "block_size": "the block size (data.block_size, less for few cells)",
    "window_size": "the window size (data.buffer_size / data.num_streams)",
    "sampling": "the sampling (data.sampling)",
}


class CellLoader:
    """Batches of one process.

    Iterating gives, without end, one list of collated micro-batches for each global batch. Call
    :meth:`mark_consumed` once the optimiser has used it: only then does :meth:`state_dict` move on.

    Parameters
    ----------
    source
        Where the cells come from.
    encoder
        What makes tokens of them.
    preprocess
        What is done to a block of raw cells first.
    order
        The order of the cells; adapted to ``world_size`` by :meth:`GlobalOrder.for_world`.
    batch_size
        Cells of a micro-batch.
    rank, world_size
        This process and how many there are. It owns the streams s with s % world_size == rank.
    num_micro_batches
        Micro-batches of a global batch on this process. All are equally large, except in the last batch of a pass
        and where batches are made of one group: these may have smaller or empty ones. Every process has the same
        number of batches.
    num_workers
        Threads that read and tokenise ahead; 0 does so when a window is needed. The batches are the same.
    seed
        Base of the cells' random draws; the order's own seed.
    collate
        Makes a batch of a block of tokens; runs in the consumer's thread. Must take an empty block.

    Raises
    ------
    ConfigError
        If a number is not a whole one, or too small.

    Attributes
    ----------
    rank, world_size
        This process and how many there are.
    num_cells
        Cells of a pass, over all processes.
    global_batch_size
        Cells of a global batch, over all processes.
    steps_per_pass
        Global batches of a pass.
    wait_seconds
        Time the consumer has spent in the loader so far.
    """

    def __init__(
        self,
        source: CellSource,
        encoder: BlockEncoder,
        preprocess: Callable[[CellBlock], CellBlock],
        order: GlobalOrder,
        *,
        batch_size: int,
        seed: int,
        collate: Callable[[TokenBlock], Any],
        rank: int = 0,
        world_size: int = 1,
        num_micro_batches: int = 1,
        num_workers: int = 0,
    ) -> None:
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("num_micro_batches", num_micro_batches, 1),
            ("num_workers", num_workers, 0),
            ("world_size", world_size, 1),
        ):
            require_whole(name, value, least)
        if order.shuffle and order.seed != seed:
            msg = f"the order has seed {order.seed}, the loader {seed}; give both the same"
            raise ValueError(msg)
        self.wait_seconds = 0.0
        self._batch_size, self._given_order = batch_size, order
        self._source, self._encoder, self._preprocess, self._collate = source, encoder, preprocess, collate
        self._seed, self._num_micro_batches, self._num_workers = seed, num_micro_batches, num_workers
        self._consumed = 0  # batches since the beginning of pass 0
        self._handed_out = 0
        self._set_up(rank=rank, world_size=world_size)

    def __iter__(self) -> Iterator[list[Any]]:
        """Continue after the last consumed batch, pass after pass, without end."""
        self._handed_out = self._consumed
        return self._counted(None)

    def one_pass(self, data_pass: int | None = None) -> Iterator[list[Any]]:
        """Yield the batches of one pass.

        Parameters
        ----------
        data_pass
            Number of the pass, of which all batches are given; the state does not change. Without a number it is the
            pass of the state, from the first batch that is not marked as consumed to the last: so a pass is resumed.
        """
        if data_pass is None:
            stop = (self.data_pass + 1) * self.steps_per_pass
            yield from self._counted(stop)
            return
        first = data_pass * self.steps_per_pass
        with closing(self._run(first, first + self.steps_per_pass)) as batches:
            yield from batches

    def num_cells_of(self, data_pass: int, batch: int) -> int:
        """Return how many cells of a global batch of a pass are this process's."""
        start, stop = self.order.batch_range(data_pass, batch, self.global_batch_size)
        return sum(self.order.first_element(s, stop) - self.order.first_element(s, start) for s in self._streams)

    def share(self, number: int, of: int) -> CellLoader:
        """Return a loader of one of several equal parts of this one's cells, for a process of its own.

        Parameters
        ----------
        number
            Which part, from 0.
        of
            How many parts; batches keep their size, so that so many make a global batch where one did.
        """
        part = copy(self)
        part._set_up(rank=self.rank * of + number, world_size=self.world_size * of)
        return part

    def __getstate__(self) -> dict[str, Any]:
        own = {"_reading", "_open", "_batches"}
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    @property
    def data_pass(self) -> int:
        """Number of the pass that the next batch to be consumed belongs to."""
        return self._consumed // self.steps_per_pass

    def mark_consumed(self) -> None:
        """Say that the optimiser has used the oldest batch not marked yet."""
        if self._consumed >= self._handed_out:
            msg = (
                "mark_consumed() was called more often than batches were handed out by iterating, or by one_pass() "
                "without a number"
            )
            raise RuntimeError(msg)
        self._consumed += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the place of the next batch, counted from what was consumed, and what the order depends on."""
        data_pass, batch = divmod(self._consumed, self.steps_per_pass)
        return {"pass": data_pass, "batch": batch, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to the place of a state. Call it before iterating.

        Raises
        ------
        ConfigError
            If the state comes from another order of cells; the message names what differs, with both values.
        """
        if self._open:
            msg = "load_state_dict() was called while the loader is being iterated"
            raise RuntimeError(msg)
        differing = [
            f"{_STATE_NAMES[name]} is {here} here and {state.get(name)} in the checkpoint"
            for name, here in self._identity().items()
            if state.get(name) != here
        ]
        if differing:
            msg = f"Cannot resume: {'; '.join(differing)}. Resume with the settings and data the run was started with."
            raise ConfigError(msg)
        self._consumed = self._handed_out = state["pass"] * self.steps_per_pass + state["batch"]

    def close(self) -> None:
        """End all iterations under way and their threads."""
        for windows in list(self._open):
            windows.close()

    def __enter__(self) -> CellLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _set_up(self, *, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size
        self.order = self._given_order.for_world(world_size)
        self.num_cells = self.order.num_cells
        self.global_batch_size = self._batch_size * world_size * self._num_micro_batches
        self.steps_per_pass = self.order.num_batches(self.global_batch_size)
        self._streams = range(rank, self.order.num_streams, world_size)
        self._begin()

    def _begin(self) -> None:
        """Make what belongs to this process."""
        self._reading = Reading(self._source, self._encoder, self._preprocess, self.order, seed=self._seed)
        self._batches = Batches(
            self.order,
            self._streams,
            self._reading,
            global_batch_size=self.global_batch_size,
            num_micro_batches=self._num_micro_batches,
            world_size=self.world_size,
        )
        self._open: set[Prefetch[Any]] = set()
        if self.num_cells >= _MANY_CELLS:
            warm_up()

    def _identity(self) -> dict[str, Any]:
        return {
            "seed": self._seed,
            "num_streams": self.order.num_streams,
            "global_batch_size": self.global_batch_size,
            "num_cells": self.num_cells,
            "block_size": self.order.block_size,
            "window_size": self.order.window_size,
            "sampling": self.order.sampling,
        }

    def _counted(self, stop: int | None) -> Iterator[list[Any]]:
        """Continue after the last consumed batch, up to one or without end; batches may be marked as consumed."""
        self._handed_out = self._consumed  # a state may have been loaded since
        with closing(self._run(self._consumed, stop)) as batches:
            for batch in batches:
                self._handed_out += 1
                yield batch

    def _run(self, first: int, stop: int | None) -> Generator[list[Any], None, None]:
        """Yield the batches numbered ``first`` to ``stop``, counted from the beginning of pass 0."""
        began = time.perf_counter()
        data_pass, batch = divmod(first, self.steps_per_pass)
        start = self.order.batch_range(data_pass, batch, self.global_batch_size)[0]
        plans, skips = plans_by_need(self.order, self._streams, data_pass=data_pass, start=start, endless=stop is None)
        windows = Prefetch(plans, self._reading.load, skips=skips, num_workers=self._num_workers)
        self._open.add(windows)
        try:
            for batches in self._ahead(windows, first, stop):
                for micro_batches in batches:
                    windows.check_open()
                    collated = [self._collate(tokens) for tokens in micro_batches]
                    self.wait_seconds += time.perf_counter() - began
                    yield collated
                    began = time.perf_counter()
        finally:
            windows.close()
            self._open.discard(windows)

    def _ahead(self, windows: Prefetch[WindowPlan], first: int, stop: int | None) -> Iterator[list[list[TokenBlock]]]:
        """Yield the tokens of the micro-batches of some batches at a time, with more of them under way."""
        begun: deque[Callable[[], list[list[TokenBlock]]]] = deque()
        while stop is None or first < stop:
            size = self._batches.at_once if stop is None else min(self._batches.at_once, stop - first)
            begun.append(self._batches.begin(windows, range(first, first + size)))
            first += size
            if len(begun) > windows.num_ahead:
                windows.load_ahead()
                yield begun.popleft()()
        while begun:
            yield begun.popleft()()
