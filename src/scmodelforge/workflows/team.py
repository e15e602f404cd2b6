"""The processes that embed cells together: each a part of them, in equally many passes through the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from scmodelforge.eval.embed import embed_batches, embed_cells
from scmodelforge.training._targets import all_gather

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Team"]


@dataclass(frozen=True)
class Team:
    """One process among those that hold the same model, or a share of it each.

    Attributes
    ----------
    rank, world_size
        Its number, and how many there are.
    gather
        Stacks an array of the same shape from each process.
    place
        Brings a further model to where the team's is, from what makes it.
    """

    rank: int
    world_size: int
    gather: Callable[[np.ndarray], np.ndarray]
    place: Callable[[Callable[[], nn.Module]], nn.Module]

    @classmethod
    def alone(cls, device: torch.device) -> Team:
        """Return a team of one."""
        return cls(0, 1, lambda rows: rows[None], lambda build: build().to(device))

    @classmethod
    def of(cls, fabric: Fabric, *, place: Callable[[Callable[[], nn.Module]], nn.Module]) -> Team:
        """Return the processes of a Fabric."""

        def gather(rows: np.ndarray) -> np.ndarray:
            stacked: np.ndarray = all_gather(fabric, torch.from_numpy(rows).to(fabric.device)).cpu().numpy()
            return stacked

        return cls(fabric.global_rank, fabric.world_size, gather, place)

    @property
    def is_first(self) -> bool:
        """Whether this process scores and writes."""
        return self.rank == 0

    def embed(
        self,
        model: nn.Module,
        batches_of: Callable[[np.ndarray], AbstractContextManager[Iterable[Any]]],
        *,
        positions: np.ndarray,
        batch_size: int,
        device: torch.device,
        autocast: Callable[[], Any] = nullcontext,
    ) -> np.ndarray:
        """Return the embeddings of cells; all processes call this and get all of them.

        A process with fewer batches than others repeats its last one, and one without cells takes another's: each pass
        through a model may need all processes.

        Parameters
        ----------
        model, device, autocast
            As for :func:`~scmodelforge.eval.embed.embed_cells`.
        batches_of
            Makes the batches of some of the cells, as a context.
        positions
            Positions of the cells, shape (N,), ascending.
        batch_size
            Cells of a batch.

        Returns
        -------
        Shape (N, H), float32.
        """
        parts = np.array_split(positions, self.world_size)  # the first is among the longest
        mine = parts[self.rank] if len(parts[self.rank]) else positions[:1]
        last: list[Any] = []
        with batches_of(mine) as batches:
            kept = _keeping_last(batches, last)
            vectors = embed_cells(model, kept, positions=mine, device=device, autocast=autocast)
        num_lacking = -(-len(parts[0]) // batch_size) - -(-len(mine) // batch_size)
        for _ in embed_batches(model, last * num_lacking, device=device, autocast=autocast):
            pass
        rows = np.zeros((len(parts[0]), vectors.shape[1]), dtype=np.float32)
        rows[: len(vectors)] = vectors
        return np.concatenate([found[: len(part)] for found, part in zip(self.gather(rows), parts, strict=True)])


def _keeping_last(batches: Iterable[Any], last: list[Any]) -> Iterator[Any]:
    for batch in batches:
        last[:] = [batch]
        yield batch
