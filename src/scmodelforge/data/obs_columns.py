"""obs columns compared with literals and with each other, as whole arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NoReturn

import numpy as np

from scmodelforge._errors import ConfigError, listed, nearest
from scmodelforge.data.protocols import CellSource

__all__ = ["Columns", "Literals", "Operator"]

Operator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"]
Literals = list[float] | list[str] | list[bool]
_COMPARE = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
_LISTED = 40


@dataclass(frozen=True)
class _Column:
    """A column: its numbers, or codes and categories. ``any`` if the source does not tell numbers from text."""

    name: str
    kind: Literal["numbers", "text", "truth values", "any"]
    numbers: np.ndarray | None = None
    codes: np.ndarray | None = None
    categories: tuple[str, ...] = ()

    def is_missing(self) -> np.ndarray:
        if self.numbers is not None:
            return np.isnan(self.numbers)
        assert self.codes is not None
        return self.codes < 0

    def spread(self, values: list[float]) -> np.ndarray:
        """Return a number for each cell from one for each category, NaN where missing."""
        assert self.codes is not None
        return np.array([*values, np.nan], dtype=np.float64)[self.codes]


class Columns:
    """The obs columns of a source, read when asked for and kept.

    Parameters
    ----------
    source
        The source. Its method ``obs_numbers(column)``, if it has one, tells numbers (float64, NaN where missing) from
        anything else (``None``); without it a column is what it is compared with, if its categories allow that.
    setting
        Where the columns are named, for messages.
    """

    def __init__(self, source: CellSource, *, setting: str) -> None:
        self._source, self._setting = source, setting
        self._read: dict[str, _Column] = {}

    def is_missing(self, name: str) -> np.ndarray:
        """Return which cells have no value, shape (N,), bool."""
        return self._column(name).is_missing()

    def truth(self, name: str) -> np.ndarray:
        """Return which cells have the value True, shape (N,), bool."""
        return self.compare(name, "==", [True])

    def compare(self, name: str, operator: Operator, other: str | Literals) -> np.ndarray:
        """Return for which cells a comparison holds, shape (N,), bool.

        A missing value compares as NaN does: only ``!=`` and ``not in`` hold.

        Parameters
        ----------
        name
            A column.
        operator
            The comparison.
        other
            Another column, or literals of one type: several for ``in`` and ``not in``, one for the others.

        Raises
        ------
        ConfigError
            If a column does not exist, or if what is compared is of different kinds.
        """
        column = self._column(name)
        if isinstance(other, str):
            left, right = self._alike(column, self._column(other))
            return np.asarray(_COMPARE[operator](left, right))
        left, literals = self._against(column, other, operator)
        if operator in ("in", "not in"):
            return np.isin(left, literals, invert=operator == "not in")
        return np.asarray(_COMPARE[operator](left, literals[0]))

    def _column(self, name: str) -> _Column:
        if name not in self._read:
            self._read[name] = self._load(name)
        return self._read[name]

    def _load(self, name: str) -> _Column:
        there = self._source.obs_columns
        if name not in there:
            msg = (
                f"{self._setting} names the obs column '{name}', which the data do not have.{nearest(name, there)} "
                f"There are: {listed(there, _LISTED)}."
            )
            raise ConfigError(msg)
        read_numbers = getattr(self._source, "obs_numbers", None)
        numbers = None if read_numbers is None else read_numbers(name)
        if numbers is not None:
            return _Column(name, "numbers", numbers=numbers)
        codes, categories = self._source.obs(name)
        if categories and set(categories) <= {"True", "False"}:
            return _Column(name, "truth values", codes=codes, categories=tuple(categories))
        return _Column(name, "any" if read_numbers is None else "text", codes=codes, categories=tuple(categories))

    def _against(self, column: _Column, literals: Literals, operator: Operator) -> tuple[np.ndarray, list[float]]:
        """Return a column and literals as numbers that compare as they do."""
        if isinstance(literals[0], bool):
            if column.kind != "truth values" or operator not in ("==", "!="):
                self._refuse(column, f"with {operator} {literals[0]}; only truth values can be equal to that or not")
            return column.spread([float(each == "True") for each in column.categories]), [float(literals[0])]
        if isinstance(literals[0], str):
            if column.kind == "numbers":
                self._refuse(column, f"with the text '{literals[0]}'; write a number without quotes")
            return self._ranked(column, [str(each) for each in literals])
        numbers = [float(each) for each in literals]
        values = _as_numbers(column)
        if values is None:
            self._refuse(column, f"with the number {numbers[0]:g}; write text in quotes: '{numbers[0]:g}'")
        return values, numbers

    def _alike(self, left: _Column, right: _Column) -> tuple[np.ndarray, np.ndarray]:
        """Return two columns as numbers that compare as they do."""
        numbers = _as_numbers(left), _as_numbers(right)
        if numbers[0] is not None and numbers[1] is not None:
            return numbers[0], numbers[1]
        if "numbers" in (left.kind, right.kind):
            self._refuse(left, f"with '{right.name}', which holds {_shown(right)}; compare columns of one kind")
        places, ranks = self._ranked(left, list(right.categories))
        return places, right.spread(ranks)

    def _ranked(self, column: _Column, texts: list[str]) -> tuple[np.ndarray, list[float]]:
        """Return a column and texts as their ranks among all texts of both."""
        rank = {text: float(place) for place, text in enumerate(sorted({*column.categories, *texts}))}
        return column.spread([rank[each] for each in column.categories]), [rank[each] for each in texts]

    def _refuse(self, column: _Column, how: str) -> NoReturn:
        msg = f"{self._setting}: the obs column '{column.name}' holds {_shown(column)} and is compared {how}."
        raise ConfigError(msg)


def _as_numbers(column: _Column) -> np.ndarray | None:
    if column.kind != "any":
        return column.numbers
    try:
        return column.spread([float(each) for each in column.categories])
    except ValueError:
        return None


def _shown(column: _Column) -> str:
    if column.kind in ("numbers", "truth values") or not column.categories:
        return column.kind if column.kind != "any" else "nothing"
    return f"text such as '{column.categories[0]}'"
