"""The tokens of a window, in memory that is used again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from scmodelforge.data.types import Measured, TokenBlock

__all__ = ["LoadedWindow", "TokenBuffer", "pieces"]

#: Cells that are read and encoded together: few enough for what is made of them to stay in the processor's caches.
_CELLS_OF_A_PIECE = 256


@dataclass(frozen=True, slots=True)
class LoadedWindow:
    """A window after reading and encoding.

    Attributes
    ----------
    tokens
        Its cells, in the order they were read in.
    rows
        Row in ``tokens`` of each cell, in window order, shape (n,), int64.
    release
        Gives back the memory; the tokens are not valid any more.
    """

    tokens: TokenBlock
    rows: np.ndarray
    release: Callable[[], None]

    def __len__(self) -> int:
        return len(self.rows)


class TokenBuffer:
    """Arrays that tokens are collected in, again and again.

    Fresh memory costs more than what is done in it here, since the system clears it page by page.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def collect(self, blocks: Iterable[TokenBlock], *, num_cells: int) -> TokenBlock:
        """Return the cells of some blocks in one, valid until the next call.

        Parameters
        ----------
        blocks
            At least one.
        num_cells
            Cells of all blocks together.
        """
        taken: list[TokenBlock] = []
        size = 0
        for block in blocks:
            parts = {"ids": block.ids, "values": block.values}
            if block.bin_ids is not None:
                parts["bin_ids"] = block.bin_ids
            for name, values in parts.items():
                likely = int(1.05 * len(values) * num_cells / max(1, len(block))) + 1
                self._put(name, size, values, likely=max(likely, size + len(values)))
            size += len(block.ids)
            taken.append(block)
        measured = [block.measured for block in taken if block.measured is not None]
        return TokenBlock(
            offsets=np.concatenate([[0], np.cumsum(np.concatenate([block.lengths for block in taken]))]),
            ids=self._arrays["ids"][:size],
            values=self._arrays["values"][:size],
            cell_index=np.concatenate([block.cell_index for block in taken]),
            keys=np.concatenate([block.keys for block in taken]),
            bin_ids=None if taken[0].bin_ids is None else self._arrays["bin_ids"][:size],
            measured=Measured.concatenate(measured) if measured else None,
        )

    def _put(self, name: str, start: int, values: np.ndarray, *, likely: int) -> None:
        array = self._arrays.get(name)
        if array is None or array.dtype != values.dtype or len(array) < start + len(values):
            larger = np.empty(likely, dtype=values.dtype)
            if array is not None and start:
                larger[:start] = array[:start]
            self._arrays[name] = array = larger
        array[start : start + len(values)] = values


def pieces(rows: np.ndarray) -> list[slice]:
    """Divide ascending rows into parts of about 256, at gaps where there are some near."""
    wanted = np.arange(_CELLS_OF_A_PIECE, len(rows) - _CELLS_OF_A_PIECE // 2, _CELLS_OF_A_PIECE)
    gaps = np.append(np.flatnonzero(np.diff(rows) > 1) + 1, len(rows))
    cuts = gaps[np.searchsorted(gaps, wanted)]
    cuts = np.where(cuts - wanted < _CELLS_OF_A_PIECE // 2, cuts, wanted)
    bounds = np.unique(np.concatenate([[0], cuts, [len(rows)]])).tolist()
    return [slice(start, stop) for start, stop in pairwise(bounds)]
