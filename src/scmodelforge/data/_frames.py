"""Tables (obs, var) of an AnnData in zarr v3: written column by column, as anndata's specification lays them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scmodelforge.data._zarr3 import compressor, write_group

if TYPE_CHECKING:
    import pandas as pd
    import zarr

__all__ = ["write_column", "write_frame", "write_table"]

#: Rows of a chunk of a column.
_ROWS = 1 << 16
_INDEX = "_index"


def write_table(group: zarr.Group, name: str, index: np.ndarray, table: pd.DataFrame | None) -> None:
    """Write a whole table.

    Parameters
    ----------
    group
        The AnnData.
    name
        ``obs`` or ``var``.
    index
        Names of the rows, shape (n,), dtype object (str). The table's own index is not looked at.
    table
        The columns; ``None`` for none.
    """
    columns = [] if table is None else list(table.columns)
    frame = write_frame(group, name, index, columns)
    for column in columns:
        assert table is not None
        write_column(frame, column, table[column].array)


def write_frame(group: zarr.Group, name: str, index: np.ndarray, columns: Sequence[str]) -> zarr.Group:
    """Begin a table: its index and the names of its columns, which :func:`write_column` fills.

    Parameters
    ----------
    group
        The AnnData.
    name
        ``obs`` or ``var``.
    index
        Names of the rows, shape (n,), dtype object (str).
    columns
        Names of the columns, in order.
    """
    frame = write_group(group, "dataframe", name=name, **{"column-order": list(columns), "_index": _INDEX})
    _write_array(frame, _INDEX, index)
    return frame


def write_column(frame: zarr.Group, name: str, values: Any) -> None:
    """Write a column of a table.

    Parameters
    ----------
    frame
        What :func:`write_frame` gave.
    name
        Name of the column.
    values
        A pandas Categorical, a nullable array of integers or booleans, or an array of numbers or texts, shape (n,).

    Raises
    ------
    TypeError
        If it is something else.
    """
    import pandas as pd

    if isinstance(values, pd.Categorical):
        column = write_group(frame, "categorical", name=name, ordered=bool(values.ordered))
        _write_array(column, "codes", np.asarray(values.codes))
        _write_array(column, "categories", np.asarray(values.categories))
    elif isinstance(values, pd.arrays.IntegerArray | pd.arrays.BooleanArray):
        is_integer = isinstance(values, pd.arrays.IntegerArray)
        column = write_group(frame, f"nullable-{'integer' if is_integer else 'boolean'}", name=name)
        kind = values.dtype.numpy_dtype
        _write_array(column, "values", values.to_numpy(dtype=kind, na_value=kind.type(0)))
        _write_array(column, "mask", np.asarray(values.isna()))
    else:
        _write_array(frame, name, np.asarray(values))


def _write_array(group: zarr.Group, name: str, values: np.ndarray) -> None:
    if values.dtype.kind not in "biufOUT":
        msg = f"a column of {values.dtype} cannot be written"
        raise TypeError(msg)
    is_text = values.dtype.kind in "OUT"
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=(max(1, min(len(values), _ROWS)),),
        dtype="str" if is_text else values.dtype,
        compressors=compressor(),
        attributes={"encoding-type": "string-array" if is_text else "array", "encoding-version": "0.2.0"},
        overwrite=True,
    )
    array[...] = values.astype(object) if is_text else values
