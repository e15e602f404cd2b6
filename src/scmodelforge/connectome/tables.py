"""Regions in tables: expression, connectivity and places as CSV or TSV, matched by the names of the regions."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scmodelforge._errors import DataError, listed

__all__ = ["read_tables"]

_log = logging.getLogger(__name__)
_LISTED = 5
_AXES = ("x", "y", "z")


def read_tables(
    path: Path, target: str | Path | None, coords: str | Path | None, *, needs_target: bool = True
) -> dict[str, Any]:
    """Read expression, connectivity and places, with regions in the order of the expression.

    Every table has the names of regions in its first column and a line of names on top. Connectivity may be without
    either: its rows and columns are then in the order of the expression. It may be left out unless it is needed.

    Raises
    ------
    DataError
        If a file is missing, is no such table, or lacks a region.
    """
    if target is None and needs_target:
        msg = f"{path}: a table of expression has no connectivity in it; target must be the file of connectivity."
        raise DataError(msg)
    expression = _table(path, "expression: a row for each region, a column for each gene")
    names = expression.index
    parts: dict[str, Any] = {
        "X": _numeric(path, expression),
        "genes": expression.columns.tolist(),
        "regions": names.tolist(),
        "Y": None if target is None else _connectivity(Path(target), names, path),
    }
    if coords is not None:
        places = _aligned(_table(Path(coords), "places: a row for each region"), names, Path(coords), path)
        parts["coords"] = _numeric(Path(coords), places[_axes(Path(coords), places)])
        for part, name in {"networks": "network", "hemispheres": "hemisphere"}.items():
            parts[part] = places[name].astype(str).tolist() if name in places else None
    return parts


def _connectivity(path: Path, names: pd.Index, expression: Path) -> np.ndarray:
    if _has_names(path):
        table = _aligned(_table(path, "connectivity: regions x regions"), names, path, expression)
        table = _aligned(table.T, names, path, expression).T
        return _numeric(path, table)
    table = pd.read_csv(path, sep=_separator(path), header=None)
    if table.shape != (len(names), len(names)):
        msg = (
            f"{path}: a matrix of {table.shape[0]:,} x {table.shape[1]:,} without names of regions, and {expression} "
            f"has {len(names):,} regions; as many rows and columns are needed, or names."
        )
        raise DataError(msg)
    return _numeric(path, table)


def _table(path: Path, what: str) -> pd.DataFrame:
    """Return a table with names of regions as its index, each once."""
    _require(path)
    with path.open(newline="", encoding="utf-8-sig") as file:
        head = next(csv.reader(file, delimiter=_separator(path)), [])
    _refuse_twice(path, head[1:], "columns")
    try:
        table = pd.read_csv(path, sep=_separator(path), index_col=0, encoding="utf-8-sig")
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as problem:
        msg = f"{path}: not readable as a table ({' '.join(str(problem).split())}); it needs {what}."
        raise DataError(msg) from problem
    if not table.size:
        msg = f"{path}: a table of {table.shape[0]} rows and {table.shape[1]} columns; it needs {what}."
        raise DataError(msg)
    table.index, table.columns = table.index.astype(str), table.columns.astype(str)
    _refuse_twice(path, table.index.tolist(), "rows")
    return table


def _aligned(table: pd.DataFrame, names: pd.Index, path: Path, expression: Path) -> pd.DataFrame:
    """Return the rows of a table in the order of the expression."""
    lacking = names.difference(table.index).tolist()
    if lacking:
        msg = (
            f"{path}: lacks {len(lacking)} of the {len(names)} regions of {expression}: {listed(lacking, _LISTED)}. "
            "Both need the same names of regions."
        )
        raise DataError(msg)
    more = table.index.difference(names).tolist()
    if more:
        _log.warning(f"{path}: {len(more)} regions are not in {expression} and left out: {listed(more, _LISTED)}.")
    return table.loc[names]


def _numeric(path: Path, table: pd.DataFrame) -> np.ndarray:
    """Return a table as numbers; empty cells are NaN."""
    for name, column in table.items():
        found = pd.to_numeric(column, errors="coerce")
        is_text = found.isna() & column.notna()
        if is_text.any():
            row = is_text.idxmax()
            msg = f"{path}: row '{row}', column '{name}' holds '{column[row]}'; numbers are needed."
            raise DataError(msg)
    return table.to_numpy(dtype=np.float64)


def _axes(path: Path, places: pd.DataFrame) -> list[str]:
    by_name = {str(name).strip().lower(): str(name) for name in places.columns}
    if not all(axis in by_name for axis in _AXES):
        msg = f"{path}: has the columns {listed(places.columns.tolist(), _LISTED)}; x, y and z are needed, in mm."
        raise DataError(msg)
    return [by_name[axis] for axis in _AXES]


def _has_names(path: Path) -> bool:
    """Return whether the first line of a file has anything that is not a number."""
    _require(path)
    with path.open(newline="", encoding="utf-8-sig") as file:
        head = next(csv.reader(file, delimiter=_separator(path)), [])
    try:
        [float(cell) for cell in head]
    except ValueError:
        return True
    return False


def _require(path: Path) -> None:
    if not path.is_file():
        msg = f"no file '{path}'; a CSV or TSV table is needed."
        raise DataError(msg)


def _refuse_twice(path: Path, names: list[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            msg = f"{path}: '{name}' is the name of two {what}; each needs one of its own."
            raise DataError(msg)
        seen.add(name)


def _separator(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","
