"""The obs and var tables of an AnnData file or store: their index, their columns, and columns as codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from scmodelforge._errors import DataError, listed, nearest
from scmodelforge.data.sources._pool import OpenFile

__all__ = ["Frame", "no_column"]

#: Rows whose texts are Python objects at a time.
_ROWS_AT_ONCE = 65_536
_LISTED = 40
#: Whole numbers up to here are exact in float64.
_EXACT = 2**53


class Frame:
    """A table of an open file.

    Parameters
    ----------
    file
        The file.
    where
        ``obs``, ``var`` or ``raw/var``.
    name
        What messages call the file.

    Raises
    ------
    DataError
        If there is no such table, or if it is written as anndata did before version 0.7.
    """

    def __init__(self, file: OpenFile, where: str, name: str) -> None:
        self.label = f"{name}: {where.replace('/', '.')}"
        root = file.root
        if where not in root:
            found = ", ".join(root) or "nothing"
            hint = " It looks like a 10x file; read it with scanpy.read_10x_h5 first." if "matrix" in root else ""
            msg = f"{name} is {file.form} but not AnnData: it has no {where}, but {found}.{hint}"
            raise DataError(msg)
        group = root[where]
        if not _is_group(group):
            msg = f"{self.label} is written as anndata did before 0.7; read and write the file with a newer anndata."
            raise DataError(msg)
        self._group = group
        self._index = group.attrs.get("_index", "_index")
        if self._index not in group:
            msg = f"{self.label} has no index '{self._index}'; write the file again with anndata."
            raise DataError(msg)

    def __len__(self) -> int:
        return _length(self._group[self._index])

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in the table's order."""
        order = [str(name) for name in self._group.attrs.get("column-order", ())]
        rest = [name for name in self._group if name not in order and name not in (self._index, "__categories")]
        return [name for name in order if name in self._group] + rest

    def index(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Return the names of some rows."""
        item = self._group[self._index]
        return _texts(item["values"] if _is_group(item) else item, start, stop)

    def codes(self, column: str) -> tuple[np.ndarray, list[str]]:
        """Return a column as codes, shape (rows,), int32, -1 where missing, and the categories that occur.

        Categories are in the order they are stored in, texts in the order they appear in, numbers ascending.
        """
        item = self._group[column]
        codes, categories = self._codes(item, column)
        if len(codes) != len(self):
            msg = (
                f"{self.label}: column '{column}' has {len(codes):,} rows, the index has {len(self):,}; "
                "the file is damaged."
            )
            raise DataError(msg)
        return codes, categories

    def numbers(self, column: str) -> np.ndarray | None:
        """Return a column of numbers, shape (rows,), float64, NaN where missing; ``None`` if it holds anything else.

        Raises
        ------
        DataError
            If it has a whole number that float64 does not.
        """
        item = self._group[column]
        codes = missing = None
        if _is_group(item) and "codes" in item:
            codes, item = item["codes"][:], item["categories"]
        elif not _is_group(item) and "categories" in item.attrs:  # anndata 0.7
            codes, item = item[:], self._old_categories(item)
        if _is_group(item) and "values" in item:
            missing = item["mask"][:] if "mask" in item else None
            item = item["values"]
        if _is_group(item) or item.dtype.kind not in "iuf":
            return None
        values = item[:]
        if values.dtype.kind in "iu" and len(values) and (values.max() > _EXACT or values.min() < -_EXACT):
            msg = f"{self.label}: column '{column}' has whole numbers beyond 2**53, which cannot be compared exactly."
            raise DataError(msg)
        numbers = values.astype(np.float64)
        if missing is not None:
            numbers[missing.astype(bool)] = np.nan
        return numbers if codes is None else np.append(numbers, np.nan)[codes]

    def _codes(self, item: Any, column: str) -> tuple[np.ndarray, list[str]]:
        if _is_group(item) and "codes" in item:
            return self._used(item["codes"][:], _categories(item["categories"]), column)
        if _is_group(item) and "values" in item:
            return _factorize(item["values"], item["mask"][:] if "mask" in item else None)
        if _is_group(item):
            msg = f"{self.label}: column '{column}' is a {item.attrs.get('encoding-type', 'group')}; it cannot be read."
            raise DataError(msg)
        if "categories" in item.attrs:  # anndata 0.7
            return self._used(item[:], _categories(self._old_categories(item)), column)
        return _factorize(item, None)

    def _old_categories(self, item: Any) -> Any:
        """Return the categories that a column of anndata 0.7 points to."""
        place = item.attrs["categories"]
        return self._group[place] if isinstance(place, str) else item.file[place]

    def _used(self, codes: np.ndarray, categories: list[str], column: str) -> tuple[np.ndarray, list[str]]:
        codes = codes.astype(np.int64)
        if len(codes) and not -1 <= codes.min() <= codes.max() < len(categories):
            msg = f"{self.label}: column '{column}' has codes without a category; the file is damaged."
            raise DataError(msg)
        used = np.unique(codes[codes >= 0])
        renumbered = np.full(len(categories) + 1, -1, dtype=np.int32)
        renumbered[used] = np.arange(len(used))
        return renumbered[codes], [categories[i] for i in used]


def no_column(label: str, column: str, columns: list[str], *, setting: str = "") -> str:
    """Return the message for a column that a table lacks; names that differ in case only are offered first."""
    alike = [f"'{name}'" for name in columns if name.casefold() == column.casefold()]
    hint = f" Did you mean {' or '.join(alike)}?" if alike else nearest(column, columns)
    return f"{label} has no column '{column}'{setting}.{hint} There are: {listed(columns, _LISTED) or 'none'}."


def _is_group(item: Any) -> bool:
    return not hasattr(item, "shape")


def _length(item: Any) -> int:
    return len(item["values"] if _is_group(item) else item)


def _is_text(values: Any) -> bool:
    if isinstance(values, h5py.Dataset):
        return h5py.check_string_dtype(values.dtype) is not None
    return bool(values.is_text)


def _texts(values: Any, start: int, stop: int | None) -> list[str]:
    if isinstance(values, h5py.Dataset) and _is_text(values):
        return list(values.asstr(errors="replace")[start:stop])
    found = values[start:stop]
    return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in found.tolist()]


def _categories(item: Any) -> list[str]:
    values = item["values"] if _is_group(item) else item
    if _is_text(values):
        return _texts(values, 0, None)
    return _number_texts(values[:])


def _number_texts(values: np.ndarray) -> list[str]:
    """Return numbers as text; whole floats, as a column of integers with missing values has, as integers."""
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all():
        return [str(int(value)) for value in values]
    return [str(value) for value in values]


def _factorize(values: Any, mask: np.ndarray | None) -> tuple[np.ndarray, list[str]]:
    if not _is_text(values):
        numbers = values[:]
        missing = np.zeros(len(numbers), dtype=bool) if mask is None else mask.astype(bool)
        if numbers.dtype.kind == "f":
            missing = missing | np.isnan(numbers)
        codes = np.full(len(numbers), -1, dtype=np.int32)
        found, codes[~missing] = np.unique(numbers[~missing], return_inverse=True)
        return codes, _number_texts(found)
    seen: dict[str, int] = {}
    codes = np.empty(len(values), dtype=np.int32)
    for start, texts in _in_parts(values):
        is_missing = [False] * len(texts) if mask is None else mask[start : start + len(texts)].tolist()
        codes[start : start + len(texts)] = [
            -1 if gone else seen.setdefault(text, len(seen)) for text, gone in zip(texts, is_missing, strict=True)
        ]
    return codes, list(seen)


def _in_parts(values: Any) -> Iterator[tuple[int, list[str]]]:
    for start in range(0, len(values), _ROWS_AT_ONCE):
        yield start, _texts(values, start, start + _ROWS_AT_ONCE)
