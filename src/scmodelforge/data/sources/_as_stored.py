"""A file's values and tables in the types they are stored in, for writing them anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.sources._examine import FileFacts
from scmodelforge.data.sources._frame import Frame
from scmodelforge.data.sources._matrix import CsrMatrix
from scmodelforge.data.sources._pool import FilePool, OpenFile

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AsStored"]


class AsStored:
    """One file of a source, as it is stored.

    Parameters
    ----------
    pool, file
        The open files, and the number of this one.
    facts
        What the source knows of it.
    """

    def __init__(self, pool: FilePool, file: int, facts: FileFacts) -> None:
        self._pool, self._file = pool, file
        self.name = facts.panel.name
        self.matrix = facts.matrix
        where = facts.matrix.where
        self._values = f"{where}/data" if isinstance(facts.matrix, CsrMatrix) else where
        self._var = "raw/var" if where == "raw/X" else "var"

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        with self._pool.use(self._file) as opened:
            return np.dtype(opened[self._values].dtype)

    @property
    def packing(self) -> str:
        """How the values are stored: ``dense``, ``none`` if not compressed, ``gzip``, another filter, or ``zarr``."""
        with self._pool.use(self._file) as opened:
            values = opened[self._values]
            if not isinstance(self.matrix, CsrMatrix):
                return "dense"
            if not hasattr(values, "id"):
                return "zarr"
            num_filters = values.id.get_create_plist().get_nfilters()
            return str(values.compression or ("another filter" if num_filters else "none"))

    @property
    def row_lengths(self) -> np.ndarray | None:
        """Values of each row, shape (cells,), int64, or ``None`` if only reading all of them tells (dense)."""
        return np.diff(self.matrix.indptr) if isinstance(self.matrix, CsrMatrix) else None

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return values in their own type, columns and starts of some rows; few enough to be in memory if dense."""
        with self._pool.use(self._file, rows=(start, stop)) as opened:
            if isinstance(self.matrix, CsrMatrix):
                _, indices, indptr = self.matrix.read(opened, start, stop)
                first, last = self.matrix.indptr[[start, stop]].tolist()
                return opened[self._values][first:last], indices, indptr
            values = opened[self._values][start:stop]
        rows, columns = np.nonzero(values)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=stop - start))])
        return values[rows, columns], columns.astype(np.int32), indptr.astype(np.int64)

    def columns(self, table: Literal["obs", "var"]) -> list[str]:
        """Return the names of a table's columns, in order."""
        with self._pool.use(self._file) as opened:
            return self._frame(opened, table).columns

    def index(self, table: Literal["obs", "var"]) -> list[str]:
        """Return the names of a table's rows."""
        with self._pool.use(self._file) as opened:
            return self._frame(opened, table).index()

    def column(self, table: Literal["obs", "var"], name: str) -> np.ndarray | pd.api.extensions.ExtensionArray:
        """Return a column: numbers as they are stored, nullable ones as pandas has them, texts as a Categorical.

        Raises
        ------
        DataError
            If it is of a kind that cannot be read, or damaged.
        """
        with self._pool.use(self._file) as opened:
            frame = self._frame(opened, table)
            num_rows = len(frame)
            try:
                values = _column(opened.root[self._where(table)][name], frame, name)
            except ValueError as error:
                if isinstance(error, DataError):
                    raise
                msg = f"{frame.label}: column '{name}' is damaged ({error}); write the file again with anndata."
                raise DataError(msg) from error
        if len(values) != num_rows:
            msg = (
                f"{frame.label}: column '{name}' has {len(values):,} rows, the index has {num_rows:,}; "
                "the file is damaged."
            )
            raise DataError(msg)
        return values

    def _frame(self, opened: OpenFile, table: str) -> Frame:
        return Frame(opened, self._where(table), self.name)

    def _where(self, table: str) -> str:
        return self._var if table == "var" else "obs"


def _column(item: Any, frame: Frame, name: str) -> Any:
    import pandas as pd

    if _is_numbers(item) and "categories" not in item.attrs:
        return item[:]
    if not hasattr(item, "shape") and "values" in item and _is_numbers(item["values"]) and "mask" in item:
        values, mask = item["values"][:], item["mask"][:].astype(bool)
        if values.dtype.kind == "f":
            values[mask] = np.nan
            return values
        return (pd.arrays.BooleanArray if values.dtype.kind == "b" else pd.arrays.IntegerArray)(values, mask)
    codes, categories = frame.codes(name)
    found: Any = categories
    is_ordered = bool(item.attrs.get("ordered", False))
    if not hasattr(item, "shape") and "codes" in item and _is_numbers(item["categories"]):
        stored = item["codes"][:]
        found = item["categories"][:][np.unique(stored[stored >= 0])]  # those that occur, as in ``codes``
    return pd.Categorical.from_codes(codes, found, ordered=is_ordered)


def _is_numbers(item: Any) -> bool:
    return hasattr(item, "shape") and item.dtype.kind in "biuf"
