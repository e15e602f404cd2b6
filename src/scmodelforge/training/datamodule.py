"""Cells as a datamodule of Lightning: the global order, its shares for processes and exact resume under a ``Trainer``.

Importing this module needs Lightning. Where both of its names are installed, ``lightning.pytorch`` and
``pytorch_lightning``, the one that is imported already is taken, since each ``Trainer`` knows its own datamodules only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from scmodelforge._errors import ConfigError
from scmodelforge._optional import require
from scmodelforge.data.loader import CellLoader
from scmodelforge.training._batches import EvaluationBatches, TrainingBatches

__all__ = ["CellDataModule", "LoaderMaker"]

LoaderMaker = Callable[[int, int], CellLoader]
"""Makes the loader of a process: called with its rank and the number of processes."""


def _lightning() -> Any:
    """Return the Lightning that is in use."""
    names = ("lightning.pytorch", "pytorch_lightning")
    for name in names:
        if sys.modules.get(name) is not None:
            return sys.modules[name]
    if find_spec("lightning") is None and find_spec("pytorch_lightning") is not None:
        return import_module("pytorch_lightning")
    return require("lightning.pytorch", extra="lightning", why="A datamodule of Lightning")


_Base: Any = _lightning().LightningDataModule


class CellDataModule(_Base):
    """The batches of cell loaders for a Lightning ``Trainer``.

    An epoch is a pass over the training cells, in the order of that pass in any other run of the same seed. Under DDP
    every process has its own cells; nothing is to be set for that. A ``Trainer`` that resumes from a checkpoint, also
    one of the middle of an epoch, goes on with the batch after the last one trained on; an epoch that ``max_steps``
    ended counts as done, as for Lightning. The checkpoint knows the order of cells it belongs to, and another one is
    refused.

    Training batches are never without cells: where the last batch of a pass has fewer cells than there are processes,
    it is left out, which is logged. In validation every cell is seen once, and some process may have a batch less.

    Parameters
    ----------
    train, val, test, predict
        Loaders with ``num_micro_batches=1``, for one process, or functions that make the one of a process. A loader is
        divided by :meth:`CellLoader.share`; with ``data.sampling.minibatch`` other than ``mixed`` a function is needed,
        since the order depends on the cells of all processes together. ``None`` where there are no such cells.
    least_cells
        Fewest cells of a training batch on a process. Models with batch normalisation need 2.

    Examples
    --------
    >>> import lightning
    >>> cells = CellDataModule(train=loader, val=held_out)  # doctest: +SKIP
    >>> lightning.Trainer(max_epochs=2).fit(module, datamodule=cells)  # doctest: +SKIP
    """

    def __init__(
        self,
        train: CellLoader | LoaderMaker | None = None,
        val: CellLoader | LoaderMaker | None = None,
        test: CellLoader | LoaderMaker | None = None,
        predict: CellLoader | LoaderMaker | None = None,
        *,
        least_cells: int = 1,
    ) -> None:
        super().__init__()
        self._given = {"train": train, "val": val, "test": test, "predict": predict}
        self._least_cells = least_cells
        self._training: TrainingBatches | None = None
        self._open: list[CellLoader] = []

    def train_dataloader(self) -> Any:
        """Return the training batches: an iterable with a length, each iteration one pass.

        Without a ``Trainer``, passes follow one another, and ``set_epoch`` of what is returned chooses one.

        Raises
        ------
        ConfigError
            If there are no training cells, or too few for every process to have some.
        """
        if self._given["train"] is None:
            msg = "The datamodule has no training cells; make it with train=."
            raise ConfigError(msg)
        made = None if self._training is None else (self._training.loader.rank, self._training.loader.world_size)
        if self._training is None or made != self._process():
            self._training = TrainingBatches(self._loader("train"), least_cells=self._least_cells, where=self._begins)
        return self._training

    def val_dataloader(self) -> Any:
        """Return the held-out batches; an empty list if there are none."""
        return self._evaluation("val")

    def test_dataloader(self) -> Any:
        """Return the test batches; an empty list if there are none."""
        return self._evaluation("test")

    def predict_dataloader(self) -> Any:
        """Return the batches to predict; an empty list if there are none."""
        return self._evaluation("predict")

    def state_dict(self) -> dict[str, Any]:
        """Return the place of the next training batch and what the order of cells depends on; Lightning saves it."""
        return {} if self._given["train"] is None else self.train_dataloader().state_dict(self._trained())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to the place of a state; Lightning calls this with what a checkpoint has.

        Raises
        ------
        ConfigError
            If the state comes from another order of cells: other data, seed, batch size or number of processes.
        """
        if state_dict:
            self.train_dataloader().load_state_dict(state_dict)

    def teardown(self, stage: str | None = None) -> None:
        """End all reading ahead; Lightning calls this at the end."""
        if self._training is not None:
            self._training.close()
        for loader in self._open:
            loader.close()
        self._open.clear()

    def on_exception(self, exception: BaseException) -> None:
        """End all reading ahead; Lightning calls this when it is interrupted."""
        self.teardown()

    def _evaluation(self, name: str) -> Any:
        if self._given[name] is None:
            return []
        loader = self._loader(name)
        self._open.append(loader)
        return EvaluationBatches(loader)

    def _process(self) -> tuple[int, int]:
        """Return the rank of this process and how many there are."""
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _loader(self, name: str) -> CellLoader:
        """Return this process's loader of a kind of cells."""
        rank, world_size = self._process()
        given = self._given[name]
        if not isinstance(given, CellLoader):
            assert given is not None
            return given(rank, world_size)
        if given.world_size != 1:
            msg = (
                f"{name}= has a loader of one of {given.world_size} processes; give that of one process: the Trainer's "
                "processes divide it."
            )
            raise ConfigError(msg)
        return given.share(rank, world_size)

    def _begins(self) -> tuple[int, int] | None:
        """Return the pass a running ``Trainer`` is about to go on with, and how many of its batches are done."""
        if self.trainer is None or not self.trainer.training:
            return None
        loop = self.trainer.fit_loop
        return loop.epoch_progress.current.processed, loop.epoch_loop.batch_progress.current.completed

    def _trained(self) -> tuple[int, int] | None:
        """Return the pass and how many of its batches were trained on, as a ``Trainer`` that fits counts them."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return None
        epochs = self.trainer.fit_loop.epoch_progress.current
        is_between = epochs.started == epochs.processed
        return epochs.processed, 0 if is_between else self.trainer.fit_loop.epoch_loop.batch_progress.current.processed
