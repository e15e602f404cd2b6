"""A pass over the cells as a dataset of torch, for loops that bring their own ``torch.utils.data.DataLoader``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from scmodelforge.data.loader import CellLoader

__all__ = ["CellDataset"]


class CellDataset(IterableDataset[Any]):
    """The batches of a pass, each cell once, whatever the number of worker processes.

    A :class:`~scmodelforge.data.loader.CellLoader` reads ahead with threads and needs no worker processes; this is for
    code that has them. Give ``batch_size=None`` to the ``DataLoader``, since what comes are batches. Workers, forked or
    spawned, share the cells: each makes batches of its own part of the streams.

    Parameters
    ----------
    loader
        Makes the batches. Its ``collate`` must be picklable for spawned workers.

    Attributes
    ----------
    data_pass
        Number of the pass that iterating gives; :meth:`set_epoch` sets it.

    Examples
    --------
    >>> from torch.utils.data import DataLoader
    >>> batches = DataLoader(CellDataset(loader), batch_size=None, num_workers=2)  # doctest: +SKIP
    """

    def __init__(self, loader: CellLoader) -> None:
        self.loader = loader
        self.data_pass = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass, so that its order is another; call it before each epoch."""
        self.data_pass = epoch

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of the pass; a list of micro-batches where the loader makes several of a global batch."""
        worker = get_worker_info()
        loader = self.loader if worker is None else self.loader.share(worker.id, worker.num_workers)
        with loader:
            for step, group in enumerate(loader.one_pass(self.data_pass)):
                if loader.num_cells_of(self.data_pass, step):
                    yield group[0] if len(group) == 1 else group
