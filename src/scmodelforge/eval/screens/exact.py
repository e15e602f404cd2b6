"""Effects of perturbations by passes through the model: one for each changed cell, many of many cells together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from scmodelforge.data.types import TokenBlock
from scmodelforge.eval.genes.changed_cells import CellTokens, block_of
from scmodelforge.eval.screens.effects import CellEffects, cell_effects, cosines
from scmodelforge.eval.screens.plan import CellPlan, Screen

__all__ = ["Embed", "exact_effects"]

#: What gives the embeddings of cells, shape (n, H); those of a cell must not depend on the others.
Embed = Callable[[TokenBlock], np.ndarray]
#: Tokens that wait to be embedded, at most, and batches: the more there are, the more alike is the length of those that
#: go together.
_MOST_TOKENS, _MOST_BATCHES = 2_000_000, 64


def exact_effects(
    blocks: Iterable[TokenBlock], screen: Screen, embed: Embed, *, goal: np.ndarray | None = None, batch_size: int = 64
) -> Iterator[CellEffects]:
    """Yield the effects in each cell in which a perturbation can be made, in the order of the cells.

    A cell is embedded once unchanged, and once for each perturbation; the same tokens are never embedded twice. Copies
    of different cells go through the model together, those of like length in one batch.

    Parameters
    ----------
    blocks
        The cells.
    screen
        What is done to them.
    embed
        Gives embeddings.
    goal
        Embedding to tell what moves cells towards it, shape (H,).
    batch_size
        Cells that are embedded at a time.
    """
    waiting: list[_Cell] = []
    queue = _Queue(embed, batch_size)
    for block in blocks:
        block = replace(block, measured=None)
        for row in range(len(block)):
            tokens = CellTokens.of(block, row)
            cell = _Cell(int(block.cell_index[row]), screen.of_cell(tokens, int(block.keys[row])))
            if not len(cell.plan.tested):
                continue
            waiting.append(cell)
            cell.queue_copies(tokens, block, screen, queue)
            while waiting and waiting[0].is_done:
                yield waiting.pop(0).effects(screen, goal)
    queue.flush()
    for cell in waiting:
        yield cell.effects(screen, goal)


@dataclass
class _Cell:
    """A cell with the embeddings of its copies as they come."""

    position: int
    plan: CellPlan
    pairs: list[tuple[int, int]] = field(default_factory=list)
    vectors: list[np.ndarray | None] = field(default_factory=list)
    is_queued: bool = False
    missing: int = 0

    @property
    def is_done(self) -> bool:
        return self.is_queued and not self.missing

    def queue_copies(self, tokens: CellTokens, block: TokenBlock, screen: Screen, queue: _Queue) -> None:
        numbers: dict[bytes, int] = {}

        def number_of(copy: CellTokens) -> int:
            key = copy.ids.astype(np.int32).tobytes() + copy.values.astype(np.float32).tobytes()
            key += copy.bins.astype(np.int32).tobytes()
            if key not in numbers:
                numbers[key] = len(self.vectors)
                self.vectors.append(None)
                self.missing += 1
                queue.add(copy, self, numbers[key], block)
            return numbers[key]

        tested = [screen.sets[number] for number in self.plan.tested]
        for genes in [*tested, *(genes for drawn in self.plan.random.values() for genes in drawn)]:
            before, after = screen.changed(tokens, genes, is_set=block.is_set)
            self.pairs.append((number_of(before), number_of(after)))
        self.is_queued = True

    def effects(self, screen: Screen, goal: np.ndarray | None) -> CellEffects:
        found = np.stack([vector for vector in self.vectors if vector is not None])
        before, after = np.array(self.pairs).T
        shift = 1 - cosines(found[before], found[after])
        towards = None
        if goal is not None:
            near = cosines(found, goal[None])
            towards = near[after] - near[before]
        return cell_effects(self.position, screen, self.plan, shift, towards)


class _Queue:
    """Copies of cells on their way through the model."""

    def __init__(self, embed: Embed, batch_size: int) -> None:
        self._embed, self._batch_size = embed, batch_size
        self._copies: list[tuple[CellTokens, _Cell, int]] = []
        self._tokens = 0
        self._like: TokenBlock | None = None

    def add(self, copy: CellTokens, cell: _Cell, number: int, like: TokenBlock) -> None:
        self._like = like
        self._copies.append((copy, cell, number))
        self._tokens += len(copy.ids)
        if self._tokens >= _MOST_TOKENS or len(self._copies) >= _MOST_BATCHES * self._batch_size:
            self.flush()

    def flush(self) -> None:
        """Embed what waits, the longest first."""
        self._copies.sort(key=lambda each: -len(each[0].ids))
        for start in range(0, len(self._copies), self._batch_size):
            part = self._copies[start : start + self._batch_size]
            assert self._like is not None
            vectors = self._embed(block_of([copy for copy, _, _ in part], self._like))
            for (_, cell, number), vector in zip(part, vectors, strict=True):
                cell.vectors[number] = vector
                cell.missing -= 1
        self._copies, self._tokens = [], 0
