"""How often each whole number occurs for each gene: what any function of single counts can be summed from later."""

from __future__ import annotations

import numpy as np

__all__ = ["ValueCounts"]

#: Numbers below this are counted in a table, the others, which are few, in a sorted list.
_SMALL = 16
#: Large values gathered before they are sorted into the list.
_GATHERED = 1 << 18


class ValueCounts:
    """Counts of the positive whole numbers of each gene, exact; 128 bytes a gene and 16 for each large value it has.

    Parameters
    ----------
    num_genes
        Number of genes V.
    """

    def __init__(self, num_genes: int) -> None:
        self._table = np.zeros((num_genes, _SMALL), dtype=np.int64)
        self._keys = np.zeros(0, dtype=np.int64)  # gene in the upper, value in the lower 32 bits
        self._times = np.zeros(0, dtype=np.int64)
        self._gathered: list[np.ndarray] = []
        self._num_gathered = 0

    @property
    def num_genes(self) -> int:
        """Number of genes V."""
        return len(self._table)

    def add(self, genes: np.ndarray, values: np.ndarray) -> None:
        """Count some values below 2**32, each shape (E,)."""
        whole = values.astype(np.int64)
        is_small = whole < _SMALL
        slots = genes[is_small] * _SMALL + whole[is_small]
        self._table += np.bincount(slots, minlength=self._table.size).reshape(self._table.shape)
        large = np.flatnonzero(~is_small)
        self._gathered.append(genes[large] << 32 | whole[large])
        self._num_gathered += len(large)
        if self._num_gathered > _GATHERED:
            self._merge()

    def sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the sum and the sum of squares of each gene's values, each shape (V,), float64."""
        return self.clipped_sums(np.full(len(self._table), np.inf))

    def clipped_sums(self, highest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the same with values above a gene's highest replaced by it.

        Parameters
        ----------
        highest
            Shape (V,).
        """
        self._merge()
        shown = np.minimum(np.arange(_SMALL), highest[:, None])  # (V, 16)
        genes, values = self._keys >> 32, self._keys & 0xFFFFFFFF
        large = np.minimum(values, highest[genes])
        num_genes = len(self._table)
        sums = (self._table * shown).sum(axis=1)
        sums += np.bincount(genes, weights=self._times * large, minlength=num_genes)
        squares = (self._table * shown**2).sum(axis=1)
        squares += np.bincount(genes, weights=self._times * large**2, minlength=num_genes)
        return sums, squares

    def _merge(self) -> None:
        keys = np.concatenate([self._keys, *self._gathered])
        times = np.concatenate([self._times, np.ones(self._num_gathered, dtype=np.int64)])
        self._keys, slot = np.unique(keys, return_inverse=True)
        merged = np.zeros(len(self._keys), dtype=np.int64)
        np.add.at(merged, slot, times)
        self._times, self._gathered, self._num_gathered = merged, [], 0
