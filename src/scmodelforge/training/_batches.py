"""What a datamodule gives as dataloaders: the batches of passes over a cell loader."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge.data.loader import CellLoader

__all__ = ["EvaluationBatches", "TrainingBatches"]

_log = logging.getLogger(__name__)


class EvaluationBatches:
    """The batches of a pass in which every process has its own cells, each once; batches without cells are left out.

    Parameters
    ----------
    loader
        Makes the batches.
    """

    def __init__(self, loader: CellLoader) -> None:
        self.loader = loader
        self._num_batches = sum(loader.num_cells_of(0, step) > 0 for step in range(loader.steps_per_pass))

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[Any]:
        """Yield every batch that has cells."""
        for step, group in enumerate(self.loader.one_pass()):
            if self.loader.num_cells_of(0, step):
                yield _only(group)


class TrainingBatches:
    """Training passes, one for each iteration.

    All processes have equally many batches, and none is without cells: a batch of which one would have fewer than
    ``least_cells`` is left out of the pass on all processes, which is logged. Such a batch is the last of a pass, or of
    a small group where batches are made of one group.

    Parameters
    ----------
    loader
        Makes the batches. Nobody else may iterate it.
    least_cells
        Fewest cells of a batch on each process.
    where
        Returns the pass to iterate next and how many of its batches are done, or ``None`` to count here.
    """

    def __init__(
        self, loader: CellLoader, *, least_cells: int, where: Callable[[], tuple[int, int] | None] = lambda: None
    ) -> None:
        self.loader = loader
        self._least_cells, self._where = least_cells, where
        self._place = 0, 0  # pass, and batches of it that were handed out
        self._running: Iterator[list[Any]] | None = None
        self._next = 0  # what the iteration under way gives next, counted from the beginning of pass 0
        self._length = len(self._kept(0))
        self._tell_left_out()

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        """Yield the rest of the pass that is under way, or else the next one."""
        data_pass, done = self._where() or self._normal(self._place)
        kept = self._kept(data_pass)
        for number in range(done, len(kept)):
            group = self._read(data_pass, int(kept[number]))
            self._place = data_pass, number + 1
            yield _only(group)

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass of the next iteration."""
        self._place = epoch, 0

    def state_dict(self, place: tuple[int, int] | None = None) -> dict[str, Any]:
        """Return a state of the loader: where the next iteration begins.

        Parameters
        ----------
        place
            A pass and how many of its batches are done; by default what was handed out.
        """
        data_pass, done = self._normal(place or self._place)
        return {**self.loader.state_dict(), "pass": data_pass, "batch": int(self._kept(data_pass)[done])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to the place of a state.

        Raises
        ------
        ConfigError
            If the state comes from another order of cells.
        """
        self.close()
        self.loader.load_state_dict(state)
        self._place = state["pass"], int(np.searchsorted(self._kept(state["pass"]), state["batch"]))

    def close(self) -> None:
        """End the reading ahead."""
        self._running = None
        self.loader.close()

    def _normal(self, place: tuple[int, int]) -> tuple[int, int]:
        """Return the beginning of the next pass for the end of one."""
        data_pass, done = place
        return (data_pass + 1, 0) if done >= self._length else place

    def _read(self, data_pass: int, batch: int) -> list[Any]:
        """Return a batch of the loader; the reading ahead goes on from pass to pass."""
        wanted = data_pass * self.loader.steps_per_pass + batch
        num_left_out = self.loader.steps_per_pass - self._length
        if self._running is None or not 0 <= wanted - self._next <= num_left_out:
            self.close()
            self.loader.load_state_dict({**self.loader.state_dict(), "pass": data_pass, "batch": batch})
            self._running, self._next = iter(self.loader), wanted
        for _ in range(self._next, wanted):
            next(self._running)
            self.loader.mark_consumed()
        group = next(self._running)
        self.loader.mark_consumed()
        self._next = wanted + 1
        return group

    def _kept(self, data_pass: int) -> np.ndarray:
        """Return the batches of a pass that are not left out, int64; equally many in every pass."""
        loader = self.loader
        size, there = loader.global_batch_size, loader.steps_per_pass
        ranges = (loader.order.batch_range(data_pass, batch, size) for batch in range(there))
        cells = np.fromiter((stop - start for start, stop in ranges), dtype=np.int64, count=there)
        return np.flatnonzero(cells // loader.world_size >= self._least_cells)

    def _tell_left_out(self) -> None:
        there = self.loader.steps_per_pass
        if not self._length:
            msg = (
                f"No batch of the {self.loader.num_cells:,} training cells has {self._least_cells} for each of "
                f"{self.loader.world_size} processes; use more cells, larger batches or fewer devices."
            )
            raise ConfigError(msg)
        if self._length < there:
            _log.warning(
                f"{there - self._length:,} of {there:,} batches are left out of each pass: some process would have "
                f"fewer than {self._least_cells} of their cells"
            )


def _only(group: list[Any]) -> Any:
    """Return the one micro-batch of a global batch."""
    if len(group) != 1:
        msg = (
            f"The loader makes {len(group)} micro-batches of a step; make it with num_micro_batches=1, and let the "
            f"Trainer accumulate gradients: accumulate_grad_batches={len(group)}."
        )
        raise ConfigError(msg)
    return group[0]
