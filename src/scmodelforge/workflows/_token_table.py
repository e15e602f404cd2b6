"""Tokens of cells as a parquet file, written a block at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge._optional import require
from scmodelforge.data.types import TokenBlock

__all__ = ["TokenTable", "check_columns", "require_arrow"]

_OWN = ("cell_index", "input_ids", "length", "values")


def require_arrow() -> None:
    """Raise an :class:`ImportError` with the command that installs it if what writes the table is missing."""
    require("pyarrow", extra="parquet", why="Writing tokens")


def check_columns(columns: list[str]) -> None:
    """Raise a :class:`ConfigError` if an obs column has the name of one of the table's own."""
    taken = [name for name in columns if name in _OWN]
    if taken:
        msg = f"--obs {taken[0]}: the output has a column of this name of its own; rename the obs column."
        raise ConfigError(msg)


class TokenTable:
    """A parquet file with a row for each cell: ``cell_index``, ``input_ids``, ``length``, ``values`` and obs columns.

    Used as a context: the file has its name when all went well, else it is gone.

    Parameters
    ----------
    path
        The file.
    obs
        obs columns of all cells of the source, by name.
    metadata
        Texts that are kept with the table.
    has_values
        Whether the table has ``values``.
    """

    def __init__(
        self, path: Path, *, obs: Mapping[str, Any], metadata: Mapping[str, str], has_values: bool = False
    ) -> None:
        require_arrow()
        import pyarrow as pa

        self._path, self._temporary = path, path.with_name(f".{path.name}.writing")
        self._obs = {name: _values(pa.array(values, from_pandas=True)) for name, values in obs.items()}
        fields = [("cell_index", pa.int64()), ("input_ids", pa.list_(pa.int32())), ("length", pa.int64())]
        fields += [("values", pa.list_(pa.float32()))] if has_values else []
        fields += [(name, values.type) for name, values in self._obs.items()]
        self._schema = pa.schema(fields, metadata=dict(metadata))
        self._has_values, self.num_rows = has_values, 0

    def __enter__(self) -> Self:
        from pyarrow.parquet import ParquetWriter

        self._writer = ParquetWriter(self._temporary, self._schema, compression="zstd")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
            if kind is None:
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def write(self, tokens: TokenBlock) -> None:
        """Append cells."""
        import pyarrow as pa

        rows, offsets = pa.array(tokens.cell_index), pa.array(tokens.offsets.astype(np.int32))
        arrays = [
            rows,
            pa.ListArray.from_arrays(offsets, pa.array(tokens.ids)),
            pa.array(tokens.lengths),
            *([pa.ListArray.from_arrays(offsets, pa.array(tokens.values))] if self._has_values else []),
            *(values.take(rows) for values in self._obs.values()),
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self.num_rows += len(tokens)


def _values(column: Any) -> Any:
    """Return a column without the coding of categories."""
    return column.dictionary_decode() if hasattr(column, "dictionary_decode") else column
