"""Tables in memory in the ways of an open file: groups of arrays, with attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Array", "Group", "table_of"]


class Array:
    """An array that gives copies of its parts, so that what is done to them does not reach it.

    Parameters
    ----------
    values
        The array; of texts if it holds objects.
    """

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self.shape, self.dtype = values.shape, values.dtype
        self.attrs: dict[str, Any] = {}

    @property
    def is_text(self) -> bool:
        """Whether it holds texts."""
        return self.dtype.kind in "OUS"

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray:
        return np.array(self._values[part])


class Group:
    """Parts by their names.

    Parameters
    ----------
    parts
        The parts, or functions that make them when they are asked for.
    attrs
        Attributes.
    """

    def __init__(self, parts: Mapping[str, Any], attrs: Mapping[str, Any] | None = None) -> None:
        self._parts = parts
        self.attrs = dict(attrs or {})

    def __getitem__(self, name: str) -> Any:
        part = self._parts[name]
        return part() if callable(part) else part

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)


def table_of(frame: pd.DataFrame) -> Group:
    """Return a table; columns that hold other things than numbers or categories are read as texts."""
    index = "_index"
    parts: dict[str, Callable[[], Any]] = {}
    for number, name in enumerate(frame.columns):
        parts.setdefault(str(name), lambda number=number: _column(frame.iloc[:, number]))  # type: ignore[misc]
    order = list(parts)
    while index in parts:
        index += "_"
    parts[index] = lambda: Array(np.array([str(name) for name in frame.index], dtype=object))
    return Group(parts, {"_index": index, "column-order": order})


def _column(values: pd.Series) -> Array | Group:
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        return Group({"codes": Array(np.asarray(values.cat.codes)), "categories": _plain(values.cat.categories)})
    if pd.api.types.is_numeric_dtype(values):
        if isinstance(values.dtype, np.dtype):
            return Array(values.to_numpy())
        filled = values.fillna(values.dtype.type(0)).to_numpy(dtype=values.dtype.numpy_dtype)
        return Group({"values": Array(filled), "mask": Array(values.isna().to_numpy())})
    texts = [None if missing else str(value) for value, missing in zip(values, values.isna(), strict=True)]
    codes, categories = pd.factorize(np.array(texts, dtype=object))
    return Group({"codes": Array(codes), "categories": Array(categories)})


def _plain(categories: pd.Index) -> Array:
    if isinstance(categories.dtype, np.dtype) and categories.dtype.kind in "biuf":
        return Array(categories.to_numpy())
    return Array(np.array([str(value) for value in categories], dtype=object))
