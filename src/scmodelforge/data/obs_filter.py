"""Cells for which an expression over obs columns holds: ``n_genes > 200 and tissue in ['lung', 'heart']``.

The expression is parsed, checked piece by piece and computed on whole columns; nothing of it is ever executed.

=========================  =============================================================================
column                     its name, in backquotes if it is no Python name: ```cell type` == 'B'``
comparison                 ``==  !=  <  <=  >  >=`` with a number, text or another column; may be chained
membership                 ``in [...]`` and ``not in [...]`` with a list of numbers or of text
truth                      a column of truth values alone, or compared with ``True`` or ``False``
missing                    ``isnull(column)``
connection                 ``and``, ``or``, ``not``, parentheses
=========================  =============================================================================

A comparison with a missing value does not hold, except for ``!=`` and ``not in``, as in pandas.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge.data.obs_columns import Columns, Operator
from scmodelforge.data.protocols import CellSource

__all__ = ["ObsFilter"]

_QUOTED = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`([^`]*)`""", re.DOTALL)
_GRAMMAR = (
    "allowed are obs columns (in backquotes if they are no plain names), numbers, text in quotes, True, False, lists, "
    "== != < <= > >=, in, not in, and, or, not, isnull(column)"
)
_DEEPEST = 100  # conditions within each other
_OPERATORS: dict[type[ast.cmpop], Operator] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
}
_MIRRORED: dict[Operator, Operator] = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True)
class _Name:
    """A column."""

    column: str


_Side = _Name | list[float] | list[str] | list[bool]  # literals: of one type, several only right of `in`


class ObsFilter:
    """A parsed expression.

    Parameters
    ----------
    expression
        The expression.
    setting
        Where it was written, for messages.

    Raises
    ------
    ConfigError
        If it is not of the form above; the message names the piece that is not.
    """

    def __init__(self, expression: str, *, setting: str = "data.filter") -> None:
        self.expression, self.setting = expression, setting
        self._quoted: dict[str, str] = {}
        text = " ".join(_QUOTED.sub(self._placeholder, expression).split("\n")).strip()
        self._text = text
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd escapes and comparisons, which are refused below or harmless
                self._tree = ast.parse(text, mode="eval").body
            self._check(self._tree)
        except SyntaxError as problem:
            piece = (problem.text or "").strip()[(problem.offset or 1) - 1 :] if problem.text else ""
            self._refuse(f"it cannot be read at '{self._restored(piece)}'" if piece else "it cannot be read")
        except (ValueError, OverflowError, RecursionError, MemoryError) as problem:
            if isinstance(problem, ConfigError):
                raise
            self._refuse("it cannot be read")

    def keeps(self, source: CellSource) -> np.ndarray:
        """Return for which cells of a source the expression holds, shape (N,), bool.

        Raises
        ------
        ConfigError
            If a column does not exist or is compared with something of another kind.
        """
        columns = Columns(source, setting=self.setting)
        return self._holds(self._tree, columns)

    def _placeholder(self, match: re.Match[str]) -> str:
        """Return a plain name for a name in backquotes; text in quotes stays."""
        if match.group(1) is None:
            return match.group(0)
        number = len(self._quoted)
        while (name := f"column_{number}_") in self.expression:
            number += 1
        self._quoted[name] = match.group(1)
        return f" {name} "

    def _restored(self, piece: str) -> str:
        for name, column in self._quoted.items():
            piece = piece.replace(name, f"`{column}`")
        return " ".join(piece.split())

    def _refuse(self, why: str) -> NoReturn:
        msg = f"{self.setting} is {self.expression!r}: {why}; {_GRAMMAR}."
        raise ConfigError(msg)

    def _refuse_piece(self, node: ast.expr) -> NoReturn:
        self._refuse(f"'{self._piece(node)}' is not allowed there")

    def _piece(self, node: ast.expr) -> str:
        return self._restored(ast.get_source_segment(self._text, node) or "")

    def _check(self, node: ast.expr, depth: int = 0) -> None:
        """Refuse all but conditions."""
        if depth > _DEEPEST:
            self._refuse("it is nested too deeply")
        if isinstance(node, ast.BoolOp):
            for each in node.values:
                self._check(each, depth + 1)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self._check(node.operand, depth + 1)
        elif isinstance(node, ast.Compare):
            self._check_comparison(node)
        elif isinstance(node, ast.Call):
            is_plain = isinstance(node.func, ast.Name) and node.func.id == "isnull" and not node.keywords
            if not is_plain or len(node.args) != 1 or not isinstance(node.args[0], ast.Name):
                self._refuse_piece(node)
        elif not isinstance(node, ast.Name):
            self._refuse_piece(node)

    def _check_comparison(self, node: ast.Compare) -> None:
        for left, operator, right in self._pairs(node):
            if type(operator) not in _OPERATORS:
                self._refuse_piece(node)
            is_membership = isinstance(operator, ast.In | ast.NotIn)
            sides = self._side(left), self._list(right) if is_membership else self._side(right)
            if not any(isinstance(side, _Name) for side in sides):
                self._refuse(f"'{self._piece(node)}' compares no column with anything")

    @staticmethod
    def _pairs(node: ast.Compare) -> Iterator[tuple[ast.expr, ast.cmpop, ast.expr]]:
        """Yield the comparisons of a chain: ``1 < x < 3`` is ``1 < x`` and ``x < 3``."""
        yield from zip([node.left, *node.comparators[:-1]], node.ops, node.comparators, strict=True)

    def _side(self, node: ast.expr) -> _Side:
        """Return a column or a literal."""
        if isinstance(node, ast.Name):
            return _Name(self._quoted.get(node.id, node.id))
        sign = 1.0
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            sign, node = -1.0 if isinstance(node.op, ast.USub) else 1.0, node.operand
            if isinstance(node, ast.Constant) and type(node.value) not in (int, float):
                self._refuse_piece(node)
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, bool):
            return [value]
        if isinstance(value, str):
            return [value]
        if isinstance(value, int | float):
            return [sign * value]
        self._refuse_piece(node)

    def _list(self, node: ast.expr) -> _Side:
        """Return the literals right of ``in``."""
        if not isinstance(node, ast.List | ast.Tuple) or not node.elts:
            self._refuse(
                f"'{self._piece(node)}' stands right of 'in', where a list is needed, such as ['lung', 'heart']"
            )
        items = [self._side(each) for each in node.elts]
        texts = [each[0] for each in items if isinstance(each, list) and isinstance(each[0], str)]
        numbers = [each[0] for each in items if isinstance(each, list) and type(each[0]) is float]
        if len(texts) == len(items):
            return texts
        if len(numbers) == len(items):
            return numbers
        self._refuse(f"the list '{self._piece(node)}' must hold only numbers, or only text")

    def _holds(self, node: ast.expr, columns: Columns) -> np.ndarray:
        if isinstance(node, ast.BoolOp):
            parts = [self._holds(each, columns) for each in node.values]
            return np.logical_and.reduce(parts) if isinstance(node.op, ast.And) else np.logical_or.reduce(parts)
        if isinstance(node, ast.UnaryOp):
            return ~self._holds(node.operand, columns)
        if isinstance(node, ast.Call):
            return columns.is_missing(self._column(node.args[0]))
        if isinstance(node, ast.Compare):
            return np.logical_and.reduce([self._compared(*pair, columns) for pair in self._pairs(node)])
        return columns.truth(self._column(node))

    def _compared(self, left: ast.expr, operator: ast.cmpop, right: ast.expr, columns: Columns) -> np.ndarray:
        word = _OPERATORS[type(operator)]
        first, second = self._side(left), self._list(right) if word in ("in", "not in") else self._side(right)
        if not isinstance(first, _Name):  # 200 < n_genes
            first, second, word = second, first, _MIRRORED[word]
        assert isinstance(first, _Name)
        return columns.compare(first.column, word, second.column if isinstance(second, _Name) else second)

    def _column(self, node: ast.expr) -> str:
        assert isinstance(node, ast.Name)
        return self._quoted.get(node.id, node.id)
