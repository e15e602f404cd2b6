"""Batches of pairs for the training loop: numbers of regions and targets, never expression."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.data.draws import generator

__all__ = ["PairBatches"]


class PairBatches:
    """Pairs in a new order each pass: a :class:`scmodelforge.training.run.Loader`.

    No batch has one pair alone, of which batch norm has no variance: it joins the batch before.

    Parameters
    ----------
    dataset
        Pairs of regions.
    indices
        Those to go through, shape (n,), at least two.
    batch_size
        Pairs of a batch.
    seed
        Base of the order.
    terms
        Names of the terms of the loss.
    """

    def __init__(
        self, dataset: RegionPairDataset, indices: np.ndarray, batch_size: int, seed: int, terms: tuple[str, ...]
    ) -> None:
        self._pairs = torch.from_numpy(dataset.pairs(indices))
        self._targets = dataset.Y[self._pairs[:, 0], self._pairs[:, 1]]
        self._batch_size, self._seed, self._terms = batch_size, seed, terms
        self._pass = self._batch = 0
        count = len(self._pairs)
        self.steps_per_pass = max(1, -(-count // batch_size) - int(count % batch_size == 1))
        self.wait_seconds = 0.0

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the batch of each step, pass after pass, from the place of the state."""
        number, first = self._pass, self._batch
        while True:
            order = torch.from_numpy(generator(self._seed, "region pairs", number).permutation(len(self._pairs)))
            yield from self._batches(order, first)
            number, first = number + 1, 0

    def one_pass(self) -> Iterator[list[dict[str, Any]]]:
        """Yield every pair once, in order."""
        yield from self._batches(torch.arange(len(self._pairs)), 0)

    def mark_consumed(self) -> None:
        """Move the state one step on."""
        self._batch += 1
        if self._batch == self.steps_per_pass:
            self._pass, self._batch = self._pass + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the place of the next step."""
        return {"pass": self._pass, "batch": self._batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to the place of a state."""
        self._pass, self._batch = state["pass"], state["batch"]

    def close(self) -> None:
        """Do nothing: nothing is read ahead."""

    def _batches(self, order: torch.Tensor, first: int) -> Iterator[list[dict[str, Any]]]:
        for step in range(first, self.steps_per_pass):
            end = None if step + 1 == self.steps_per_pass else (step + 1) * self._batch_size
            rows = order[step * self._batch_size : end]
            counts = dict.fromkeys(self._terms, len(rows))
            yield [{"pairs": self._pairs[rows], "targets": self._targets[rows], "num_targets": counts}]
