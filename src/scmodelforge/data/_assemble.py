"""From cells that lie in several windows, of one or more panels, to tokens in the order wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scmodelforge.data._prefetch import Part
from scmodelforge.data._window import Taken
from scmodelforge.data.types import CellBlock, TokenBlock

__all__ = ["Assembled", "assemble"]

#: Tokens of some cells of the panel of a number, given their keys.
Encode = Callable[[int, CellBlock, np.ndarray], TokenBlock]


@dataclass(frozen=True, slots=True)
class Assembled:
    """Cells in order, of which each panel's are a block.

    Attributes
    ----------
    blocks
        The tokens of each panel's cells.
    block_of, rows
        Of each cell the number of its block and its row there, shape (n,), int64.
    """

    blocks: list[TokenBlock]
    block_of: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, cells: np.ndarray) -> TokenBlock:
        """Return some cells that follow each other, at least one; those of one panel share memory with the whole."""
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
        What makes tokens of the cells of a panel, given its number.
    """
    taken = Taken([(part.cells(), part.start, part.stop) for part in parts])
    numbers = taken.panel_numbers
    if (numbers == numbers[0]).all():
        cells, row = np.arange(len(order)), np.empty(len(order), dtype=np.int64)
        row[order] = cells
        tokens = encode(int(numbers[0]), taken.gather(cells, row), taken.keys[order])
        return Assembled([tokens], np.zeros(len(order), dtype=np.int64), cells)
    blocks, block_of, rows = [], np.zeros(len(order), dtype=np.int64), np.empty(len(order), dtype=np.int64)
    for block, number in enumerate(np.unique(numbers).tolist()):
        here = np.flatnonzero(numbers[order] == number)
        in_order = order[here]
        cells = np.sort(in_order)
        row = np.empty(len(cells), dtype=np.int64)
        row[np.searchsorted(cells, in_order)] = np.arange(len(cells))
        blocks.append(encode(number, taken.gather(cells, row), taken.keys[in_order]))
        block_of[here], rows[here] = block, np.arange(len(cells))
    return Assembled(blocks, block_of, rows)
