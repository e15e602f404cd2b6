"""Cells by their rows, from sources that read ranges of rows only."""

from __future__ import annotations

from functools import cache

import numpy as np

from scmodelforge.data.protocols import CellSource
from scmodelforge.data.types import CellBlock, RowRange

__all__ = ["gather_by_ranges", "read_into", "read_rows", "row_lengths"]

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


def row_lengths(source: CellSource, file: int, rows: np.ndarray) -> np.ndarray | None:
    """Return how many values some rows of a file have, shape (n,), int64, where :func:`read_into` can read them.

    ``None`` where it cannot: if the source has no method of this name with the same arguments but the first, or that
    returns ``None``.
    """
    return getattr(source, "row_lengths")(file, rows) if _reads_into(type(source)) else None  # noqa: B009


def read_into(source: CellSource, file: int, rows: np.ndarray, values: np.ndarray, columns: np.ndarray) -> bool:
    """Read some cells of one file by the source's own method of this name, without a block in between.

    Parameters
    ----------
    source
        A source that told their :func:`row_lengths`.
    file
        Number of the file.
    rows
        Row numbers, each once, shape (n,), int64.
    values, columns
        Get the values and columns of all rows, one row after another. Values are float32, or uint16 if that is known
        to do; the type of the columns holds them.

    Returns
    -------
    Whether the type of ``values`` holds all of them; if not, what the arrays got is of no use.
    """
    return bool(getattr(source, "read_into")(file, rows, values, columns))  # noqa: B009 - not every source has it


@cache
def _reads_into(kind: type) -> bool:
    """Tell whether a source has the method, and no class derived from the one that has it reads rows in its own way."""
    names = ("read_into", "row_lengths", "read_rows", "read")
    origin = {name: next((base for base in kind.__mro__ if name in base.__dict__), object) for name in names}
    return all(origin[name] is origin["read_into"] is not object for name in names)


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
