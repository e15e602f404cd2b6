"""Cells by their rows, from sources that read ranges of rows only."""

from __future__ import annotations

import numpy as np

from scmodelforge.data.types import CellBlock, CellSource, RowRange

__all__ = ["gather_by_ranges", "read_rows"]

_BRIDGED_ROWS = 32  # a new read costs about as much as reading this many rows: a chunk of a file holds 13 to 30 cells
_ROWS_PER_READ = 1024  # bounds the raw rows in memory


def read_rows(source: CellSource, file: int, rows: np.ndarray) -> CellBlock:
    """Return some cells of one file of a source, in any order. A row that is asked for several times is read once.

    Parameters
    ----------
    source
        The source. If it has a method ``read_rows(file, rows)``, that is called.
    file
        Number of the file.
    rows
        Row numbers, shape (n,), int64.
    """
    own = getattr(source, "read_rows", None)
    ascending = np.sort(rows)
    if (ascending[1:] == ascending[:-1]).any():
        distinct, places = np.unique(rows, return_inverse=True)
        return read_rows(source, file, distinct).select(places)
    return gather_by_ranges(source, file, rows) if own is None else own(file, rows)


def gather_by_ranges(source: CellSource, file: int, rows: np.ndarray) -> CellBlock:
    """Do as :func:`read_rows` by :meth:`CellSource.read`; near neighbours share a read."""
    order = np.argsort(rows)
    ascending = rows[order]
    apart = np.diff(ascending) > _BRIDGED_ROWS + 1
    runs = np.cumsum(np.concatenate([[0], apart]))
    starts = ascending[np.concatenate([[0], np.flatnonzero(apart) + 1])]
    pieces = (ascending - starts[runs]) // _ROWS_PER_READ
    parts = []
    for part in np.split(ascending, np.flatnonzero(apart | (np.diff(pieces) != 0)) + 1):
        cells = source.read(RowRange(file, int(part[0]), int(part[-1]) + 1))
        parts.append(cells if len(part) == len(cells) else cells.select(part - part[0]))
    together = parts[0] if len(parts) == 1 else CellBlock.concatenate(parts)
    return together if (order[1:] > order[:-1]).all() else together.select(np.argsort(order))
