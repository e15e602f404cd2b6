"""Cells known again wherever they come from: an identity of each, and a small sketch of many.

The identity of a cell is made of the genes that it expresses and of which of their values are its smallest, its second
smallest, or larger. So it is the same in a copy of other format, in another order of cells and genes, under other names
of genes, divided by totals or logged; and it differs between two cells that were measured.

A sketch keeps the smallest identities of a set of cells. As identities are drawn like lots, those are a random sample
of the cells, and the same sample of every other set: how many cells two sets share is estimated from it ("bottom-k
sketch", Cohen & Kaplan 2007, doi:10.1145/1281100.1281133).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from scmodelforge.data._level_kernel import NUM_LEVELS, sum_levels
from scmodelforge.data.draws import mix
from scmodelforge.data.types import CellBlock, Panel
from scmodelforge.data.vocab import GeneVocab

__all__ = ["CellIdentities", "CellSketch", "Shared", "SketchVisitor", "shared_cells"]

#: Identities that a sketch keeps: 256 KiB, and all cells of smaller sets.
SKETCH_SIZE = 32_768
#: Cells that express fewer genes are not told apart.
MIN_GENES = 10
#: Stands for cells that are not told apart.
NO_IDENTITY = np.uint64(0)


@dataclass(frozen=True)
class Shared:
    """How many cells of one set are in another.

    Attributes
    ----------
    checked
        Cells that were looked for: those with an identity that the sketch would have kept.
    found
        How many of them are there.
    """

    checked: int
    found: int

    @property
    def share(self) -> float:
        """Their share, 0 if no cell was looked for."""
        return self.found / self.checked if self.checked else 0.0


def shared_cells(some: np.ndarray, others: np.ndarray) -> Shared:
    """Look for cells with some identities, shape (n,), among those of others, shape (m,), all uint64."""
    asked = some[some != NO_IDENTITY]
    return Shared(len(asked), int(np.count_nonzero(np.isin(asked, others))))


@dataclass(frozen=True)
class CellSketch:
    """The smallest identities of a set of cells.

    Attributes
    ----------
    identities
        Ascending, no two alike, shape (k,), uint64.
    is_whole
        Whether these are all there are; else larger ones are not known of.
    num_genes
        Genes of the vocabulary that the identities were made with; a vocabulary that was extended has them first.
    """

    identities: np.ndarray
    is_whole: bool
    num_genes: int

    def shared(self, identities: np.ndarray) -> Shared:
        """Look for cells with these identities, shape (n,), uint64; equal ones count each."""
        asked = identities[identities != NO_IDENTITY]
        if not self.is_whole:
            asked = asked[asked <= self.identities[-1]]
        if not len(self.identities):
            return Shared(len(asked), 0)
        slots = np.minimum(np.searchsorted(self.identities, asked), len(self.identities) - 1)
        return Shared(len(asked), int(np.count_nonzero(self.identities[slots] == asked)))


class CellIdentities:
    """Identities of all cells of a scan, by position. Give one to :func:`~scmodelforge.data.scan.scan` as a visitor.

    Parameters
    ----------
    vocab
        The genes that count.
    num_cells
        Cells of the source.
    num_genes
        How many of the vocabulary's genes count, its first; ``None`` are all.
    """

    def __init__(self, vocab: GeneVocab, num_cells: int, *, num_genes: int | None = None) -> None:
        self._identify = _Identify(vocab, num_genes)
        self.num_genes = self._identify.num_genes
        self.values = np.full(num_cells, NO_IDENTITY, dtype=np.uint64)

    def update(self, block: CellBlock) -> None:
        """Take a block of cells."""
        self.values[block.positions] = self._identify(block)


class SketchVisitor:
    """Makes the sketch of training cells during a scan, and keeps the identities of held-out ones.

    Parameters
    ----------
    vocab
        The genes that count.
    is_train, is_held_out
        Tell of positions, shape (n,), which are those of such cells, shape (n,), bool.
    size
        Identities that the sketch keeps.
    """

    def __init__(
        self,
        vocab: GeneVocab,
        is_train: Callable[[np.ndarray], np.ndarray],
        is_held_out: Callable[[np.ndarray], np.ndarray],
        *,
        size: int = SKETCH_SIZE,
    ) -> None:
        self._identify = _Identify(vocab, None)
        self._is_train, self._is_held_out, self._size = is_train, is_held_out, size
        self._held_out: list[np.ndarray] = []
        self._kept = np.zeros(0, dtype=np.uint64)
        self._waiting: list[np.ndarray] = []
        self._num_waiting = 0
        self._is_whole = True

    def update(self, block: CellBlock) -> None:
        """Take a block of cells."""
        found = self._identify(block)
        self._held_out.append(found[self._is_held_out(block.positions)])
        found = found[self._is_train(block.positions) & (found != NO_IDENTITY)]
        if not self._is_whole:
            found = found[found < self._kept[-1]]
        self._waiting.append(found)
        self._num_waiting += len(found)
        if self._num_waiting >= self._size:
            self._settle()

    def finish(self) -> tuple[CellSketch, Shared]:
        """Return the sketch of the training cells, and how many held-out cells are among them, after the last block."""
        self._settle()
        sketch = CellSketch(self._kept, self._is_whole, self._identify.num_genes)
        return sketch, sketch.shared(np.concatenate([np.zeros(0, dtype=np.uint64), *self._held_out]))

    def _settle(self) -> None:
        known = np.unique(np.concatenate([self._kept, *self._waiting]))
        self._is_whole = self._is_whole and len(known) <= self._size
        self._kept = known[: self._size].copy()
        self._waiting, self._num_waiting = [], 0


@dataclass
class _Identify:
    """Makes identities of the cells of blocks."""

    vocab: GeneVocab
    given: int | None
    _panel: Panel | None = field(default=None, init=False)
    _table: np.ndarray = field(default_factory=lambda: np.zeros((0, NUM_LEVELS), dtype=np.uint64), init=False)
    _is_known: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool), init=False)

    @property
    def num_genes(self) -> int:
        return len(self.vocab.genes) if self.given is None else self.given

    def __call__(self, block: CellBlock) -> np.ndarray:
        if block.panel is not self._panel:
            self._bind(block.panel)
        identities = np.empty(len(block), dtype=np.uint64)
        lengths = sum_levels(block.data, block.indices, block.indptr, self._is_known, self._table, identities)
        made = mix(identities, lengths)
        return np.where(lengths < MIN_GENES, NO_IDENTITY, np.where(made == NO_IDENTITY, np.uint64(1), made))

    def _bind(self, panel: Panel) -> None:
        tokens = self.vocab.map_panel(panel)
        genes = np.where(tokens < 0, -1, self.vocab.gene_numbers[tokens])
        self._is_known = (genes >= 0) & (genes < self.num_genes)
        self._table = mix("cell identity", np.arange(NUM_LEVELS), genes[:, None])
        self._panel = panel
