"""From cells that lie in several windows, of one or more files, to tokens in the order wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scmodelforge.data._prefetch import Part
from scmodelforge.data._window import Taken
from scmodelforge.data.types import CellBlock, TokenBlock

__all__ = ["Assembled", "assemble"]

#: Tokens of some cells of a file, given their keys.
Encode = Callable[[int, CellBlock, np.ndarray], TokenBlock]


@dataclass(frozen=True, slots=True)
class Assembled:
    """Cells in order, of which each file's are a block.

    Attributes
    ----------
    blocks
        The tokens of each file's cells.
    block_of, rows
        Of each cell the number of its block and its row there, shape (n,), int64.
    """

    blocks: list[TokenBlock]
    block_of: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, cells: np.ndarray) -> TokenBlock:
        """Return some cells that follow each other, at least one; of a single file they share memory with the whole."""
        if len(self.blocks) == 1:
            return self.blocks[0].part(int(cells[0]), int(cells[-1]) + 1)
        return TokenBlock.gather(self.blocks, self.block_of[cells], self.rows[cells])


def assemble(parts: Sequence[Part], order: np.ndarray, encode: Encode) -> Assembled:
    """Encode some cells; waits until they are read.

    Parameters
    ----------
    parts
        Where they lie, at least one.
    order
        The order wanted: numbers of the cells of all parts, one part after another, shape (n,), int64.
    encode
        What makes tokens of the cells of a file.
    """
    taken = Taken([(part.cells(), part.start, part.stop) for part in parts])
    if (taken.files == taken.files[0]).all():
        cells, row = np.arange(len(order)), np.empty(len(order), dtype=np.int64)
        row[order] = cells
        block = encode(int(taken.files[0]), taken.gather(cells, row), taken.keys[order])
        return Assembled([block], np.zeros(len(order), dtype=np.int64), cells)
    blocks, block_of, rows = [], np.zeros(len(order), dtype=np.int64), np.empty(len(order), dtype=np.int64)
    for number, file in enumerate(np.unique(taken.files).tolist()):
        here = np.flatnonzero(taken.files[order] == file)
        in_order = order[here]
        cells = np.sort(in_order)
        row = np.empty(len(cells), dtype=np.int64)
        row[np.searchsorted(cells, in_order)] = np.arange(len(cells))
        blocks.append(encode(file, taken.gather(cells, row), taken.keys[in_order]))
        block_of[here], rows[here] = number, np.arange(len(cells))
    return Assembled(blocks, block_of, rows)
