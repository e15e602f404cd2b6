"""The cells of a window as they were read, in memory that is used again.

Counts and columns take 4 bytes a gene where they fit, half of what sparse rows take: so twice as many cells can be
mixed, and what is copied at random lies closer together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from scmodelforge.data._kernels import copy_cells, pack_cells
from scmodelforge.data.gather import read_into, read_rows, row_lengths
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.types import CellBlock, Panel

__all__ = ["Taken", "WindowBuffer", "WindowCells", "pieces"]

#: Cells that are read together: few enough for what is made of them to stay in the processor's caches.
_CELLS_OF_A_PIECE = 512
#: Columns that 16 bits can name.
_NARROW = 1 << 16


@dataclass(frozen=True, slots=True)
class WindowCells:
    """A window after reading; n cells in window order.

    Attributes
    ----------
    values, columns
        Expression and column of each gene of all cells, in the order they were read in.
    starts, lengths
        Which of them are each cell's, shape (n,), int64.
    panel_numbers
        Number of each cell's panel, shape (n,), int64; cells of several files with the same genes have the same one.
    panels
        The panels of these numbers.
    positions
        Position in the source of each cell, shape (n,), int64.
    keys
        Base of each cell's random draws, shape (n,), uint64.
    obs
        Codes of obs columns that the source gave along, each shape (n,).
    release
        Gives back the memory; the cells are not valid any more.
    """

    values: np.ndarray
    columns: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    panel_numbers: np.ndarray
    panels: dict[int, Panel]
    positions: np.ndarray
    keys: np.ndarray
    obs: dict[str, np.ndarray]
    release: Callable[[], None]

    def __len__(self) -> int:
        return len(self.starts)


class WindowBuffer:
    """Arrays that the cells of a window are collected in, again and again.

    Fresh memory costs more than what is done in it here, since the system clears it page by page. Values are kept as
    whole numbers of 16 bits until one comes that is none.

    Parameters
    ----------
    values_fit
        ``False`` if it is known that one will come.
    """

    def __init__(self, *, values_fit: bool = True) -> None:
        self._values = np.empty(0, dtype=np.uint16 if values_fit else np.float32)
        self._columns = np.empty(0, dtype=np.uint16)
        self._size = 0

    @property
    def values_fit(self) -> bool:
        """Whether all values so far were whole numbers of 16 bits."""
        return self._values.dtype == np.uint16

    def begin(self, num_cells: int) -> None:
        """Forget what there was, and make room for so many cells."""
        self._size = 0
        self._starts, self._lengths, self._panel_numbers = np.zeros((3, num_cells), dtype=np.int64)
        self._panels: dict[int, Panel] = {}
        self._obs: dict[str, np.ndarray] = {}
        self._num_cells, self._num_read = num_cells, 0

    def read(self, source: CellSource, file: int, rows: np.ndarray, slots: np.ndarray, panel_number: int) -> None:
        """Read some rows of a file and put them at their places in the window.

        Parameters
        ----------
        source
            Where they come from.
        file
            Number of the file.
        rows
            Row numbers, ascending, shape (n,), int64; a row may come several times, and is read once.
        slots
            Their places, shape (n,), int64.
        panel_number
            Number of the file's panel.
        """
        is_new = np.append(True, rows[1:] != rows[:-1])
        distinct, place = rows[is_new], np.cumsum(is_new) - 1
        panel = source.panels[file]
        if len(panel.gene_ids) > _NARROW and self._columns.dtype == np.uint16:
            self._columns = self._columns.astype(np.int32)
        lengths = row_lengths(source, file, distinct)
        if lengths is None:
            cells = read_rows(source, file, distinct)
            lengths, panel = np.diff(cells.indptr), cells.panel
            fill = partial(pack_cells, cells.data, cells.indices)
            for name, codes in cells.obs.items():
                self._obs.setdefault(name, np.full(self._num_cells, -1, dtype=np.int32))[slots] = codes[place]
        else:
            fill = partial(read_into, source, file, distinct)
        ends = self._size + np.cumsum(lengths)
        self._make_room(int(ends[-1]), len(rows))
        here = slice(self._size, int(ends[-1]))
        if not fill(self._values[here], self._columns[here]):
            self._values = self._values.astype(np.float32)
            fill(self._values[here], self._columns[here])
        self._size = int(ends[-1])
        self._starts[slots], self._lengths[slots] = (ends - lengths)[place], lengths[place]
        self._panel_numbers[slots] = panel_number
        self._panels[panel_number] = panel

    def finish(self, positions: np.ndarray, keys: np.ndarray, release: Callable[[], None]) -> WindowCells:
        """Return the window; see :class:`WindowCells`."""
        cells = slice(0, self._size)
        return WindowCells(
            values=self._values[cells],
            columns=self._columns[cells],
            starts=self._starts,
            lengths=self._lengths,
            panel_numbers=self._panel_numbers,
            panels=self._panels,
            positions=positions,
            keys=keys,
            obs=self._obs,
            release=release,
        )

    def _make_room(self, size: int, num_cells: int) -> None:
        """Have arrays of at least this size, and if they must be made, of what all cells will likely need."""
        self._num_read += num_cells
        if size <= len(self._values):
            return
        likely = max(size, int(1.05 * size * self._num_cells / self._num_read) + 1)
        for name in ("_values", "_columns"):
            old = getattr(self, name)
            larger = np.empty(likely, dtype=old.dtype)
            larger[: self._size] = old[: self._size]
            setattr(self, name, larger)


class Taken:
    """Cells of several windows, numbered through: those of each part one after another.

    Parameters
    ----------
    parts
        The windows, and the first and last (exclusive) cell of each that is taken; at least one.

    Attributes
    ----------
    panel_numbers, keys
        Number of the panel and base of the draws of each cell, shape (n,), int64 and uint64.
    """

    def __init__(self, parts: Sequence[tuple[WindowCells, int, int]]) -> None:
        self._windows = [window for window, _, _ in parts]
        self._bounds = np.cumsum([0, *(stop - start for _, start, stop in parts)])

        def together(name: str) -> np.ndarray:
            return np.concatenate([getattr(window, name)[start:stop] for window, start, stop in parts])

        self._starts, self._lengths, self._positions = together("starts"), together("lengths"), together("positions")
        self.panel_numbers, self.keys = together("panel_numbers"), together("keys")
        self._obs: dict[str, np.ndarray] = {}
        for name in {name for window in self._windows for name in window.obs}:
            codes = [
                window.obs[name][start:stop] if name in window.obs else np.full(stop - start, -1, dtype=np.int32)
                for window, start, stop in parts
            ]
            self._obs[name] = np.concatenate(codes)

    def gather(self, cells: np.ndarray, places: np.ndarray) -> CellBlock:
        """Return some of the cells as sparse rows of float32 values and int32 columns.

        Parameters
        ----------
        cells
            Numbers of cells of one panel, ascending, shape (m,), int64.
        places
            Row of the result for each, shape (m,), int64.
        """
        lengths, positions = np.empty(len(cells), dtype=np.int64), np.empty(len(cells), dtype=np.int64)
        lengths[places], positions[places] = self._lengths[cells], self._positions[cells]
        indptr = np.zeros(len(cells) + 1, dtype=np.int64)
        np.cumsum(lengths, out=indptr[1:])
        data, indices = np.empty(indptr[-1], dtype=np.float32), np.empty(indptr[-1], dtype=np.int32)
        starts, lengths, targets = self._starts[cells], self._lengths[cells], indptr[places]
        cuts = np.searchsorted(cells, self._bounds).tolist()
        for window, (first, last) in zip(self._windows, pairwise(cuts), strict=True):
            if first < last:
                part = slice(first, last)
                copy_cells(window.values, window.columns, starts[part], lengths[part], targets[part], data, indices)
        obs = {}
        for name, codes in self._obs.items():
            obs[name] = np.empty(len(cells), dtype=np.int32)
            obs[name][places] = codes[cells]
        origin = self._windows[int(np.searchsorted(self._bounds, cells[0], side="right")) - 1]
        panel = origin.panels[int(self.panel_numbers[cells[0]])]
        return CellBlock(data, indices, indptr, panel, positions, obs)


def pieces(rows: np.ndarray) -> list[slice]:
    """Divide ascending rows into parts of about 512, at gaps where there are some near."""
    wanted = np.arange(_CELLS_OF_A_PIECE, len(rows) - _CELLS_OF_A_PIECE // 2, _CELLS_OF_A_PIECE)
    gaps = np.append(np.flatnonzero(np.diff(rows) > 1) + 1, len(rows))
    cuts = gaps[np.searchsorted(gaps, wanted)]
    cuts = np.where(cuts - wanted < _CELLS_OF_A_PIECE // 2, cuts, wanted)
    bounds = np.unique(np.concatenate([[0], cuts, [len(rows)]])).tolist()
    return [slice(start, stop) for start, stop in pairwise(bounds)]
