"""Cells known again wherever they come from: an identity of each, and a small sketch of many.

The identity of a cell is made of the genes that it expresses and of the order of their values: which ones have the
smallest value, which the second smallest, up to the sixteenth. So it is the same in a copy of other format, in another
order of cells and genes, under other names of genes, divided by totals or logged; and it differs between two cells that
were measured, unless few genes were.

A sketch keeps the smallest identities of a set of cells. As identities are drawn like lots, those are a random sample
of the cells, and the same sample of every other set: how many cells two sets share is estimated from it ("bottom-k
sketch", Cohen & Kaplan 2007, doi:10.1145/1281100.1281133).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from scmodelforge.data._order_kernel import NUM_LEVELS, sum_ordered
from scmodelforge.data.draws import mix
from scmodelforge.data.types import CellBlock, Panel
from scmodelforge.data.vocab import GeneVocab

__all__ = ["CellIdentities", "CellSketch", "Shared", "SketchVisitor", "common_genes", "shared_cells"]

#: Identities that a sketch keeps: 2 MiB, and all cells of smaller sets.
SKETCH_SIZE = 2**18
#: Cells that express fewer genes are not told apart.
MIN_GENES = 10
#: Stands for cells that are not told apart.
NO_IDENTITY = np.uint64(0)

_FEW = 0.001  # share of cells that two sets may have in common by chance
_LOW = 0.01  # share below which it must lie, so that two sets count as having none in common
_UNIDENTIFIED = 0.05  # share of cells that may have no identity then
_LOOK_ALIKE = 3  # times the share of cells that look like others of their own set


@dataclass(frozen=True)
class Shared:
    """How many cells of one set are in another.

    Attributes
    ----------
    asked
        Cells of the set.
    identified
        How many of them can be told apart.
    checked
        How many of these were looked for: those that the sketch would have kept.
    found
        How many of these are there.
    repeated
        How many of those looked for look like another one of their own set.
    is_sample
        Whether those looked for are a sample.
    has_genes
        Whether the set was measured for all genes that identities in the sketch are made of. If not, its cells can have
        other identities than they have there.
    is_complete
        Whether the sketch is of all cells that matter.
    """

    asked: int
    identified: int
    checked: int
    found: int
    repeated: int = 0
    is_sample: bool = False
    has_genes: bool = True
    is_complete: bool = True

    @property
    def share(self) -> float:
        """Share found of those looked for, 0 if there were none."""
        return self.found / self.checked if self.checked else 0.0

    @property
    def verdict(self) -> bool | None:
        """Whether the sets share cells; ``None`` if that cannot be told.

        They do if at least two were found, and more than chance explains: one in a thousand, and three times the share
        of cells that look like others of their own set. They do not if fewer were found than that and, with 95 %
        confidence, no more than one in a hundred are there.
        """
        by_chance = max(_FEW, _LOOK_ALIKE * self.repeated / max(self.checked, 1))
        if self.found >= 2 and self.share > by_chance:
            return True
        is_low = self.share <= (_LOW if self.is_sample else _FEW) and self._highest_share() <= _LOW
        is_told_apart = self.identified >= (1 - _UNIDENTIFIED) * self.asked and self.repeated <= _FEW * self.checked
        knows = is_told_apart and self.has_genes and self.is_complete
        return False if is_low and knows and self.checked else None

    def _highest_share(self) -> float:
        """Return the upper end of the 95 % interval of the share (Clopper & Pearson 1934), if those are a sample."""
        if not self.is_sample:
            return self.share
        if self.found >= self.checked:
            return 1.0
        from scipy.stats import beta

        return float(beta.ppf(0.95, self.found + 1, self.checked - self.found))


def shared_cells(some: np.ndarray, others: np.ndarray, *, has_genes: bool = True) -> Shared:
    """Look for cells with some identities, shape (n,), among those of others, shape (m,), all uint64."""
    known = np.unique(others[others != NO_IDENTITY])
    return CellSketch(known, True, np.zeros(0, dtype=bool)).shared(some, has_genes=has_genes)


@dataclass(frozen=True)
class CellSketch:
    """The smallest identities of a set of cells.

    Attributes
    ----------
    identities
        Ascending, no two alike, shape (k,), uint64.
    is_whole
        Whether these are all there are; else larger ones are not known of.
    genes
        Which genes of the vocabulary the identities are made of, shape (number of genes,), bool: those that all files
        were measured for. A vocabulary that was extended has these genes first.
    is_complete
        Whether the set has all cells that a model was trained on; else there were others, of which nothing is known.
    """

    identities: np.ndarray
    is_whole: bool
    genes: np.ndarray
    is_complete: bool = True

    def shared(self, identities: np.ndarray, *, has_genes: bool = True) -> Shared:
        """Look for cells with these identities, shape (n,), uint64; equal ones count each.

        Parameters
        ----------
        identities
            Made of :attr:`genes`.
        has_genes
            Whether these cells were measured for all of them.
        """
        identified = identities[identities != NO_IDENTITY]
        asked = identified
        if not self.is_whole:
            asked = asked[asked <= self.identities[-1]]
        found = 0
        if len(self.identities):
            slots = np.minimum(np.searchsorted(self.identities, asked), len(self.identities) - 1)
            found = int(np.count_nonzero(self.identities[slots] == asked))
        return Shared(
            asked=len(identities),
            identified=len(identified),
            checked=len(asked),
            found=found,
            repeated=len(asked) - len(np.unique(asked)),
            is_sample=not self.is_whole,
            has_genes=has_genes,
            is_complete=self.is_complete,
        )


def common_genes(vocab: GeneVocab, panels: Sequence[Panel]) -> np.ndarray:
    """Return which genes of a vocabulary all files were measured for, shape (number of genes,), bool."""
    common = np.ones(len(vocab.genes), dtype=bool)
    for panel in panels:
        there = np.zeros(len(common), dtype=bool)
        there[_numbers(vocab, panel)[1]] = True
        common &= there
    return common


class CellIdentities:
    """Identities of all cells of a scan, by position. Give one to :func:`~scmodelforge.data.scan.scan` as a visitor.

    Parameters
    ----------
    vocab
        The genes that there are.
    panels
        The genes of each file.
    num_cells
        Cells of the source.
    genes
        Which of the vocabulary's first genes identities are made of; ``None`` are those that all files have.
    """

    def __init__(
        self, vocab: GeneVocab, panels: Sequence[Panel], num_cells: int, *, genes: np.ndarray | None = None
    ) -> None:
        common = common_genes(vocab, panels)
        self.genes = common if genes is None else genes
        self.has_genes = bool(common[: len(self.genes)][self.genes].all())
        self._identify = _Identify(vocab, self.genes)
        self.values = np.full(num_cells, NO_IDENTITY, dtype=np.uint64)

    def update(self, block: CellBlock) -> None:
        """Take a block of cells."""
        self.values[block.positions] = self._identify(block)


class SketchVisitor:
    """Makes the sketch of training cells during a scan, and keeps the identities of held-out ones.

    Parameters
    ----------
    vocab
        The genes that there are; of these count those that all files have.
    panels
        The genes of each file.
    is_train, is_held_out
        Tell of positions, shape (n,), which are those of such cells, shape (n,), bool.
    size
        Identities that the sketch keeps.
    genes
        As of :class:`CellIdentities`.
    """

    def __init__(
        self,
        vocab: GeneVocab,
        panels: Sequence[Panel],
        is_train: Callable[[np.ndarray], np.ndarray],
        is_held_out: Callable[[np.ndarray], np.ndarray],
        *,
        size: int = SKETCH_SIZE,
        genes: np.ndarray | None = None,
    ) -> None:
        self._genes = common_genes(vocab, panels) if genes is None else genes
        self._identify = _Identify(vocab, self._genes)
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
        sketch = CellSketch(self._kept, self._is_whole, self._genes)
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
    genes: np.ndarray
    _panel: Panel | None = field(default=None, init=False)
    _of_columns: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.uint64), init=False)

    def __call__(self, block: CellBlock) -> np.ndarray:
        if block.panel is not self._panel:
            self._bind(block.panel)
        sums = np.empty(len(block), dtype=np.uint64)
        lengths = sum_ordered(block.data, block.indices, block.indptr, self._of_columns, _FACTORS, sums)
        made = mix(sums, lengths)
        return np.where(lengths < MIN_GENES, NO_IDENTITY, np.where(made == NO_IDENTITY, np.uint64(1), made))

    def _bind(self, panel: Panel) -> None:
        columns, numbers = _numbers(self.vocab, panel)
        counts = (numbers < len(self.genes)) & self.genes[np.minimum(numbers, len(self.genes) - 1)]
        columns, numbers = columns[counts], numbers[counts]
        self._of_columns = np.zeros(len(panel.gene_ids), dtype=np.uint64)
        self._of_columns[columns] = mix("cell identity", numbers) | np.uint64(1)
        self._panel = panel


#: Odd, so that no number of a gene is lost by one.
_FACTORS = mix("place in a cell", np.arange(NUM_LEVELS)) | np.uint64(1)


def _numbers(vocab: GeneVocab, panel: Panel) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of a file whose genes a vocabulary has, and the numbers of these genes."""
    tokens = vocab.map_panel(panel)
    columns = np.flatnonzero(tokens >= 0)
    numbers = vocab.gene_numbers[tokens[columns]]
    return columns[numbers >= 0], numbers[numbers >= 0]
