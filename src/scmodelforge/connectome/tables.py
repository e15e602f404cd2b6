"""Regions in tables: expression, connectivity and places as CSV or TSV, matched by the names of the regions."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scmodelforge._errors import DataError, listed
from scmodelforge.connectome._file_faults import Source

__all__ = ["read_tables"]

_log = logging.getLogger(__name__)
_LISTED = 5
_KINDS = (".csv", ".tsv")
_AXES = ("x", "y", "z")
_SHOWN = 2  # names of each side, where none are on both


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
        msg = (
            f"{path}: a table of expression has no connectivity in it; target must be the file of connectivity, as "
            "target='FILE.csv'."
        )
        raise DataError(msg)
    _require_names(path)
    expression = _table(path, "expression: a row for each region, a column for each gene")
    names = expression.index
    others = {"target='FILE.csv'": target, "coords='FILE.csv'": coords}
    for how, other in others.items():
        if other is not None:
            _require(Path(other), how, path)
    regions = _Regions(path, names, expression.columns)
    parts: dict[str, Any] = {
        "X": _numeric(path, expression),
        "genes": expression.columns.tolist(),
        "regions": names.tolist(),
        "Y": None if target is None else _connectivity(Path(target), regions),
        "sources": {
            "X": Source(path, "expression"),
            "Y": Source(Path(target or path), "connectivity"),
            "coords": Source(Path(coords or path), "coordinates"),
        },
    }
    if coords is not None:
        _require_names(Path(coords))
        places = _aligned(_table(Path(coords), "places: a row for each region"), regions, Path(coords))
        parts["coords"] = _numeric(Path(coords), places[_axes(Path(coords), places)])
        for part, name in {"networks": "network", "hemispheres": "hemisphere"}.items():
            parts[part] = places[name].astype(str).tolist() if name in places else None
    return parts


class _Regions(NamedTuple):
    """The regions of a table of expression, with which other tables are matched."""

    path: Path
    names: pd.Index
    genes: pd.Index

    def turned(self, names: Sequence[str]) -> str:
        """Return a hint if names of regions are those of its columns, or nothing."""
        if len(self.genes.intersection(pd.Index(names))) * 2 <= len(names):
            return ""
        return f" They are the columns of {self.path}: it has genes as rows and regions as columns; transpose it."


def _connectivity(path: Path, regions: _Regions) -> np.ndarray:
    if _has_names(path):
        table = _aligned(_table(path, "connectivity: regions x regions"), regions, path)
        return _numeric(path, _aligned(table.T, regions, path).T)
    table = _parsed(path, "connectivity: regions x regions", header=None)
    num_regions, num_genes = len(regions.names), len(regions.genes)
    if table.shape != (num_regions, num_regions):
        turned = " Is that table transposed? Regions are its rows." if table.shape == (num_genes, num_genes) else ""
        msg = (
            f"{path}: a matrix of {table.shape[0]:,} x {table.shape[1]:,} without names of regions, and {regions.path} "
            f"has {num_regions:,} regions; as many rows and columns are needed, or names.{turned}"
        )
        raise DataError(msg)
    _log.info(f"{path} has no names of regions: its rows and columns are taken in the order of {regions.path}")
    return _numeric(path, table)


def _table(path: Path, what: str) -> pd.DataFrame:
    """Return a table with names of regions as its index, each once."""
    _refuse_twice(path, _head(path)[1:], "columns")
    table = _parsed(path, what, index_col=0)
    if not table.size:
        msg = f"{path}: a table of {table.shape[0]} rows and {table.shape[1]} columns; it needs {what}."
        raise DataError(msg)
    table.index, table.columns = table.index.astype(str), table.columns.astype(str)
    _refuse_twice(path, table.index.tolist(), "rows")
    return table


def _parsed(path: Path, what: str, **how: Any) -> pd.DataFrame:
    try:
        return pd.read_csv(path, sep=_separator(path), encoding="utf-8-sig", **how)
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as problem:
        msg = f"{path}: not readable as a table ({' '.join(str(problem).split())}); it needs {what}."
        raise DataError(msg) from problem


def _aligned(table: pd.DataFrame, regions: _Regions, path: Path) -> pd.DataFrame:
    """Return the rows of a table in the order of the expression."""
    expression, names = regions.path, regions.names
    lacking = names[~names.isin(table.index)].tolist()
    if len(lacking) == len(names):
        here, there = (", ".join(f"'{each}'" for each in index[:_SHOWN]) for index in (table.index, names))
        turned = regions.turned(table.index.tolist())
        msg = (
            f"{path}: its regions are named {here}, and none is in {expression}, whose rows are named {there}."
            f"{turned or ' Both need the same names of regions.'}"
        )
        raise DataError(msg)
    if lacking:
        msg = (
            f"{path}: lacks {len(lacking)} of the {len(names)} regions of {expression}: {listed(lacking, _LISTED)}. "
            "Both need the same names of regions."
        )
        raise DataError(msg)
    more = table.index[~table.index.isin(names)].tolist()
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
    try:
        [float(cell) for cell in _head(path)]
    except ValueError:
        return True
    return False


def _require_names(path: Path) -> None:
    """Refuse a table whose first line is numbers: regions could be matched with no other table."""
    head = _head(path)
    if head and not _has_names(path):
        msg = (
            f"{path}: the first line is numbers ({listed(head, _SHOWN)}); a line of names is needed on top, and the "
            "name of its region in the first cell of each row."
        )
        raise DataError(msg)


def _head(path: Path) -> list[str]:
    """Return the cells of the first line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file, delimiter=_separator(path)), [])
    except (UnicodeDecodeError, csv.Error) as problem:
        msg = f"{path}: not readable as text; a CSV or TSV table is needed."
        raise DataError(msg) from problem


def _require(path: Path, how: str, expression: Path) -> None:
    """Refuse a table that is not there: an array of a file is named so, but of tables each is a file."""
    if path.is_file():
        return
    beside = next((each for each in (path.with_name(f"{path.name}{end}") for end in _KINDS) if each.is_file()), None)
    hint = f" Did you mean '{beside}'?" if beside else ""
    msg = (
        f"no file '{path}'; beside a table of expression ({expression.name}) it must be the path of another table, as "
        f"{how}.{hint}"
    )
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
