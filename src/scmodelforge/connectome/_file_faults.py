"""What can be wrong with files of regions: each fault names its file, and row and column where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scmodelforge._errors import DataError, listed
from scmodelforge.connectome import _checks
from scmodelforge.connectome.regions import Regions

__all__ = ["Source", "refuse_direction", "refuse_missing", "refuse_turned"]

_LISTED = 5


class Source(NamedTuple):
    """Where a table comes from: its file, and what it is called there."""

    path: Path
    what: str


def refuse_missing(sources: Mapping[str, Source], table: Regions) -> None:
    """Refuse missing values: say in which file they are, of which regions, and where the first of them is.

    Parameters
    ----------
    sources
        Where ``X``, ``Y`` and ``coords`` come from.
    table
        What was read.

    Raises
    ------
    DataError
        If there are any but on the diagonal of connectivity.
    """
    by_table = _checks.missing_by_table(table.X, table.Y, table.coords)
    found = {name: lost for name, lost in by_table.items() if lost.any()}
    if not found:
        return
    name, *others = found
    path, what = sources[name]
    lost = np.flatnonzero(found[name])
    value, row, column = _first_missing(name, table, int(lost[0]))
    names = listed([f"'{table.regions[int(each)]}'" for each in lost], _LISTED)
    more = [str(there) if there != path else part for there, part in (sources[other] for other in others)]
    first = f"first: {value} in row '{row}', column '{column}' of {what}"
    msg = (
        f"{path}: {len(lost)} of {len(table.X)} regions have missing or infinite values ({first}): {names}. All values "
        "are needed; missing='drop' leaves these regions out."
        + (f" More are missing in {' and '.join(more)}." if more else "")
    )
    raise DataError(msg)


def refuse_direction(source: Source, table: Regions) -> None:
    """Refuse connectivity that is not the same both ways, and say where it differs most.

    Raises
    ------
    DataError
        If it is not.
    """
    if _checks.is_symmetric(table.Y):
        return
    gap = np.abs(table.Y - table.Y.T)
    np.fill_diagonal(gap, 0)
    row, column = (int(place) for place in np.unravel_index(int(gap.argmax()), gap.shape))
    msg = (
        f"{source.path}: {source.what} is not symmetric: {table.Y[row, column]:.4g} from '{table.regions[row]}' to "
        f"'{table.regions[column]}' and {table.Y[column, row]:.4g} back. If it has a direction, say so by "
        "directed=True, else make it symmetric."
    )
    raise DataError(msg)


def refuse_turned(path: Path, arrays: Mapping[str, np.ndarray], target: str | None) -> None:
    """Refuse expression with genes as rows, where the names of genes or connectivity show it.

    Parameters
    ----------
    path
        The file.
    arrays
        Its arrays by their names.
    target
        The name of connectivity, if it is known.

    Raises
    ------
    DataError
        If it is turned so.
    """
    shape = arrays["expression"].shape
    if len(shape) != 2 or shape[0] == shape[1]:
        return
    squares = {name for name, array in arrays.items() if array.shape == (shape[1], shape[1])} - {"coords"}
    upright = {name for name, array in arrays.items() if array.shape == (shape[0], shape[0])}
    genes, regions = arrays.get("genes"), arrays.get("regions")
    if (genes is not None and genes.shape == shape[1:]) or (regions is not None and regions.shape == shape[:1]):
        return
    if target in squares or (target is None and squares and not upright):
        shown = f"'{target or min(squares)}' is {shape[1]:,} x {shape[1]:,}"
    elif genes is not None and genes.shape == shape[:1]:
        shown = f"there are {len(genes):,} genes"
    else:
        return
    msg = (
        f"{path}: expression is {shape[0]:,} x {shape[1]:,} and {shown}: it has genes as rows. Regions x genes is "
        "needed; transpose it."
    )
    raise DataError(msg)


def _first_missing(name: str, table: Regions, region: int) -> tuple[float, str, str]:
    """Return the first missing value of a region in a table, and the names of its row and column."""
    values: np.ndarray = getattr(table, name)
    is_bad = ~np.isfinite(values)
    if name == "Y":
        np.fill_diagonal(is_bad, False)
    is_row = np.arange(len(values)) == region
    of_region = is_bad & is_row[:, None]
    if not of_region.any():  # of pairs to the region, not from it
        of_region = is_bad & is_row
    row, column = (int(place) for place in np.argwhere(of_region)[0])
    columns = {"X": table.genes, "coords": ("x", "y", "z"), "Y": table.regions}[name]
    return float(values[row, column]), str(table.regions[row]), str(columns[column])
