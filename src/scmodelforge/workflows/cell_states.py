"""Cells of a source that a user names: by an expression over obs columns, or as ``column=value``."""

from __future__ import annotations

import re

import numpy as np

from scmodelforge._errors import ConfigError, listed, nearest
from scmodelforge.data.draws import mix
from scmodelforge.data.obs_filter import ObsFilter
from scmodelforge.data.protocols import CellSource

__all__ = ["cells_where", "drawn_cells", "groups_by"]

_PLAIN = re.compile(r"([^=<>!]*[^=<>!\s])\s*=\s*([^=].*)")
_LISTED = 12


def cells_where(source: CellSource, words: str, *, setting: str) -> np.ndarray:
    """Return which cells are meant, shape (N,), bool.

    Parameters
    ----------
    source
        The cells.
    words
        ``column=value``, or an expression as of :class:`~scmodelforge.data.obs_filter.ObsFilter`.
    setting
        Where it was written, for messages.

    Raises
    ------
    ConfigError
        If there is no such column or value, or the expression cannot be read.
    """
    plain = _PLAIN.fullmatch(words.strip())
    if plain is None:
        return ObsFilter(words, setting=setting).keeps(source)
    column, value = plain.groups()
    codes, categories = _column(source, column, setting)
    names = [str(each) for each in categories]
    if value not in names:
        msg = (
            f"{setting} is {words!r}, and no cell has {value!r} in obs column '{column}'.{nearest(value, names)} "
            f"There are: {listed(names, _LISTED)}."
        )
        raise ConfigError(msg)
    return np.asarray(codes == names.index(value))


def groups_by(source: CellSource, column: str, *, setting: str) -> list[tuple[str, np.ndarray]]:
    """Return the values of an obs column, each with the positions of its cells; cells without a value are in none.

    Raises
    ------
    ConfigError
        If there is no such column.
    """
    codes, categories = _column(source, column, setting)
    return [(str(name), np.flatnonzero(codes == code)) for code, name in enumerate(categories)]


def drawn_cells(source: CellSource, positions: np.ndarray, most: int | None, *, seed: int) -> np.ndarray:
    """Return some of the given cells, ascending, drawn by their names, whatever the order of the cells."""
    if most is None or len(positions) <= most:
        return positions
    names = list(source.obs_names())
    drawn = np.array([int(mix(seed, "drawn cells", names[position])) for position in positions], dtype=np.uint64)
    return np.sort(positions[np.argsort(drawn, kind="stable")[:most]])


def _column(source: CellSource, column: str, setting: str) -> tuple[np.ndarray, list[str]]:
    there = source.obs_columns
    if column not in there:
        msg = (
            f"{setting} names the obs column '{column}', which the data do not have.{nearest(column, there)} "
            f"There are: {listed(there, _LISTED)}."
        )
        raise ConfigError(msg)
    return source.obs(column)
