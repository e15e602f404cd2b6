"""The obs and var tables of a SOMA experiment: which cells a filter selects, columns as codes, gene ids."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.sources._frame import no_column

__all__ = ["ObsTable", "read_genes"]

_log = logging.getLogger(__name__)
_JOINID = "soma_joinid"
#: Names that writers of stores give to the column with the cells' names.
_NAME_COLUMNS = ("obs_id", "cell_barcode", "barcode", "cell_id")
_GENE_COLUMNS = ("feature_id", "var_id")
_NAMES_AT_ONCE = 16_384


class ObsTable:
    """The cells of an obs table that meet a filter. It holds no open table: that is an argument of each method.

    Parameters
    ----------
    obs
        The open table.
    value_filter
        The filter, ``None`` for all cells.
    name
        What messages call the store.
    """

    def __init__(self, obs: Any, value_filter: str | None, name: str) -> None:
        self.columns = [column for column in obs.schema.names if column != _JOINID]
        self._filter, self._name = value_filter, name
        self._name_column = next((column for column in _NAME_COLUMNS if column in self.columns), None)

    def select(self, obs: Any, listed: Mapping[str, list[Any]]) -> np.ndarray:
        """Return the joinids of the cells, shape (n,), int64, ascending.

        Parameters
        ----------
        obs
            The open table.
        listed
            Columns with the values that the filter allows there. A value that no selected cell has is warned of.

        Raises
        ------
        DataError
            If there are none, or one is there twice.
        """
        parts = [np.zeros(0, dtype=np.int64)]
        counts: dict[str, Counter] = {column: Counter() for column in listed}
        for table in obs.read(column_names=[_JOINID, *listed], value_filter=self._filter):
            parts.append(table[_JOINID].to_numpy().astype(np.int64, copy=False))
            for column, counter in counts.items():
                for pair in table[column].value_counts().to_pylist():
                    counter[pair["values"]] += pair["counts"]
        joinids = np.concatenate(parts)
        joinids.sort()
        if not len(joinids):
            rule = f"no cell with {self._filter}" if self._filter else "no cells"
            msg = f"{self._name} has {rule}; correct data.filters and data.value_filter, or name other data."
            raise DataError(msg)
        is_repeated = joinids[1:] == joinids[:-1]
        if is_repeated.any():
            msg = f"{self._name}: obs has soma_joinid {joinids[:-1][is_repeated][0]} twice; the store is damaged."
            raise DataError(msg)
        for column, values in listed.items():
            unmet = [str(value) for value in values if not counts[column][value]]
            if unmet:
                _log.warning(f"{self._name}: no selected cell has {column} {', '.join(unmet)} (data.filters.{column})")
        return joinids

    def codes(self, obs: Any, column: str, joinids: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Return a column of the selected cells as codes, -1 where missing, and its categories.

        Parameters
        ----------
        obs
            The open table.
        column
            The column.
        joinids
            What :meth:`select` gave.

        Raises
        ------
        DataError
            If there is no such column, it holds neither text nor numbers, or the store is not as it was.
        """
        if column not in self.columns:
            raise DataError(no_column(f"{self._name}: obs", column, self.columns))
        _check_kind(obs.schema.field(column).type, f"{self._name}: obs column '{column}'")
        merged: dict[Any, int] = {}
        codes = np.full(len(joinids), -1, dtype=np.int32)
        num_read = 0
        for table in obs.read(column_names=[_JOINID, column], value_filter=self._filter):
            slots = np.searchsorted(joinids, table[_JOINID].to_numpy())
            num_read += len(slots)
            codes[slots] = np.concatenate([_codes(chunk, merged) for chunk in table[column].chunks])
        if num_read != len(joinids):
            msg = f"{self._name} has changed since it was opened: {num_read:,} cells instead of {len(joinids):,}."
            raise DataError(msg)
        return _tidied(codes, list(merged), is_stored=_is_dictionary(obs.schema.field(column).type))

    def names(self, obs: Any, joinids: np.ndarray) -> list[str]:
        """Return the names of some cells, their joinids ascending."""
        column = self._name_column
        if column is None:
            return [str(joinid) for joinid in joinids.tolist()]
        import pyarrow

        table = obs.read(coords=(pyarrow.array(joinids),), column_names=[_JOINID, column]).concat()
        order = np.argsort(table[_JOINID].to_numpy())
        names = table[column].to_pylist()
        return [str(names[row]) for row in order.tolist()]

    def name_parts(self, joinids: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the joinids in parts whose names fit into memory."""
        for start in range(0, len(joinids), _NAMES_AT_ONCE):
            yield joinids[start : start + _NAMES_AT_ONCE]


def read_genes(var: Any, column: str | None, name: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the gene ids in ascending order of joinid, the joinids, and the column the ids are from.

    Parameters
    ----------
    var
        The open table.
    column
        Column with the ids; ``None`` takes ``feature_id``, or if there is none ``var_id``.
    name
        What messages call the store.

    Raises
    ------
    DataError
        If there is no such column.
    """
    columns = [each for each in var.schema.names if each != _JOINID]
    chosen = column or next((each for each in _GENE_COLUMNS if each in columns), None)
    if chosen is None:
        msg = (
            f"{name}: var has neither of the columns {' and '.join(_GENE_COLUMNS)}; name the one with the gene ids in "
            f"data.gene_id_column. There are: {', '.join(columns)}."
        )
        raise DataError(msg)
    if chosen not in columns:
        raise DataError(no_column(f"{name}: var", chosen, columns, setting=" (data.gene_id_column)"))
    table = var.read(column_names=[_JOINID, chosen]).concat()
    joinids = table[_JOINID].to_numpy().astype(np.int64)
    order = np.argsort(joinids)
    ids = np.array(["" if each is None else str(each) for each in table[chosen].to_pylist()], dtype=object)
    return ids[order], joinids[order], chosen


def _is_dictionary(kind: Any) -> bool:
    import pyarrow.types as kinds

    return bool(kinds.is_dictionary(kind))


def _check_kind(kind: Any, label: str) -> None:
    import pyarrow.types as kinds

    kind = kind.value_type if kinds.is_dictionary(kind) else kind
    known = (kinds.is_string, kinds.is_large_string, kinds.is_boolean, kinds.is_integer, kinds.is_floating)
    if not any(is_one(kind) for is_one in known):
        msg = f"{label} holds {kind}; text, numbers or bools are needed."
        raise DataError(msg)


def _codes(chunk: Any, merged: dict[Any, int]) -> np.ndarray:
    """Return a part of a column as codes into the categories seen so far, which grow."""
    encoded = chunk if _is_dictionary(chunk.type) else chunk.dictionary_encode()
    values = list(encoded.dictionary.to_numpy(zero_copy_only=False))
    is_missing = [value is None or value != value for value in values]  # NaN differs from itself
    places = [
        -1 if gone else merged.setdefault(value, len(merged)) for value, gone in zip(values, is_missing, strict=True)
    ]
    own = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    return np.array([*places, -1], dtype=np.int32)[own]


def _tidied(codes: np.ndarray, values: list[Any], *, is_stored: bool) -> tuple[np.ndarray, list[str]]:
    """Return codes into the categories that occur: in stored order, of numbers and bools ascending, else as they come.

    Parameters
    ----------
    codes
        Codes into ``values``, -1 where missing.
    values
        Categories, some perhaps of no cell.
    is_stored
        Whether the column lists its categories.
    """
    used, first = np.unique(codes, return_index=True)
    used, first = used[used >= 0], first[used >= 0]
    found = [values[code] for code in used.tolist()]
    if is_stored:
        order = np.arange(len(used))
    elif found and not isinstance(found[0], str):
        order = np.argsort(np.array(found))
    else:
        order = np.argsort(first)
    renumbered = np.full(len(values) + 1, -1, dtype=np.int32)
    renumbered[used[order]] = np.arange(len(used))
    return renumbered[codes], _texts([found[each] for each in order.tolist()])


def _texts(values: list[Any]) -> list[str]:
    """Return categories as text; whole floats, as a column of integers with missing values has, as integers."""
    if all(isinstance(value, np.floating) and value.is_integer() for value in values):
        return [str(int(value)) for value in values]
    return [str(value) for value in values]
