"""From cells that lie in several windows, of one or more files, to tokens in the order wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scmodelforge.data._prefetch import Part
from scmodelforge.data._window import gather_cells
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
    place = {part.window: number for number, part in enumerate(parts)}
    windows = [part.cells() for part in parts]
    window_of = np.concatenate([np.full(len(part), place[part.window]) for part in parts])[order]
    rows = np.concatenate([np.arange(part.start, part.stop) for part in parts])[order]
    files, keys = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.uint64)
    for number in place.values():
        here = np.flatnonzero(window_of == number)
        files[here], keys[here] = windows[number].files[rows[here]], windows[number].keys[rows[here]]
    blocks, block_of, block_rows = [], np.empty_like(files), np.empty_like(rows)
    for number, file in enumerate(np.unique(files).tolist()):
        here = np.flatnonzero(files == file)
        blocks.append(encode(file, gather_cells(windows, window_of[here], rows[here]), keys[here]))
        block_of[here], block_rows[here] = number, np.arange(len(here))
    return Assembled(blocks, block_of, block_rows)
