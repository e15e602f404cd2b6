"""The filter settings as one SOMA expression: every column checked, every value of the column's type and quoted."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from keyword import iskeyword
from typing import Any

from scmodelforge._errors import ConfigError, DataError, listed, nearest
from scmodelforge._optional import require
from scmodelforge.data.sources._frame import no_column
from scmodelforge.data.sources._soma_store import one_line

__all__ = ["combined_filter", "named_columns"]

_EXAMPLE = "raw_sum > 500 and disease == 'normal'"
_LISTED = 20
#: Values of a list that are not text become one comparison each.
_MOST_NUMBERS = 1000


def combined_filter(
    obs: Any, filters: Mapping[str, Any], value_filter: str | None, name: str, *, joinid: str = "soma_joinid"
) -> str | None:
    """Return the expression that cells must meet, ``None`` if there is nothing to meet.

    Parameters
    ----------
    obs
        The open obs table.
    filters
        Columns with the value or the list of values that cells must have.
    value_filter
        An expression that cells must meet as well.
    name
        What messages call the store.
    joinid
        The index column, which may be used in ``value_filter``.

    Raises
    ------
    DataError
        If there is no such column, or no cell of the store has such a value, as far as the column lists its values.
    ConfigError
        If a value is not of its column's type, or ``value_filter`` is not an expression.
    """
    columns = [column for column in obs.schema.names if column != joinid]
    terms = []
    for column, value in filters.items():
        if column not in columns:
            raise DataError(no_column(f"{name}: obs", column, columns, setting=" (data.filters)"))
        terms.append(_term(obs, column, value, name))
    if value_filter is not None:
        for column in named_columns(value_filter):
            if column not in (*columns, joinid):
                advice = " Text needs quotes."
                raise DataError(no_column(f"{name}: obs", column, columns, setting=" (data.value_filter)") + advice)
        terms.append(_raw_term(obs, value_filter, joinid))
    if len(terms) < 2:
        return terms[0] if terms else None
    return " and ".join(f"({term})" for term in terms)


def named_columns(value_filter: str | None) -> list[str]:
    """Return the columns that an expression names, each once.

    Raises
    ------
    ConfigError
        If it is not an expression.
    """
    if value_filter is None:
        return []
    nodes = list(ast.walk(_parsed(value_filter)))
    functions = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    found = [node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in functions]
    found += [
        str(argument.value)
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "attr"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    ]
    return list(dict.fromkeys(found))


def _parsed(value_filter: str) -> ast.Expression:
    try:
        return ast.parse(value_filter.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        msg = (
            f"data.value_filter is not a SOMA expression: '{value_filter}' ({error.args[0]}); write it like "
            f'"{_EXAMPLE}".'
        )
        raise ConfigError(msg) from error


def _raw_term(obs: Any, value_filter: str, joinid: str) -> str:
    """Return the user's own expression, spelled as Python spells it, after SOMA has taken it for one cell."""
    soma = require("tiledbsoma", extra="census", why="Reading a SOMA store")
    term = ast.unparse(_parsed(value_filter))
    try:
        obs.read(coords=(slice(0, 0),), column_names=[joinid], value_filter=term).concat()
    except (soma.SOMAError, RuntimeError, ValueError) as error:
        msg = (
            f"data.value_filter is not a SOMA expression: '{value_filter}' ({one_line(error)}); write it like "
            f'"{_EXAMPLE}".'
        )
        raise ConfigError(msg) from error
    return term


def _term(obs: Any, column: str, value: Any, name: str) -> str:
    """Return the expression for one column."""
    values = value if isinstance(value, list) else [value]
    setting = f"data.filters.{column}"
    if not values:
        msg = f"{setting} is an empty list, which no cell meets; name values, or leave it out."
        raise ConfigError(msg)
    is_text = _check_types(obs.schema.field(column).type, values, setting, name)
    _check_stored(obs, column, values, name)
    attribute = column if column.isidentifier() and not iskeyword(column) else f"attr({column!r})"
    if len(values) == 1:
        return f"{attribute} == {values[0]!r}"
    if is_text:
        return f"{attribute} in {values!r}"
    if len(values) > _MOST_NUMBERS:
        msg = f"{setting} has {len(values):,} values, at most {_MOST_NUMBERS:,} can be; use data.value_filter."
        raise ConfigError(msg)
    return " or ".join(f"{attribute} == {each!r}" for each in values)  # SOMA's `in` takes no bools, nothing negative


def _check_types(kind: Any, values: list[Any], setting: str, name: str) -> bool:
    """Refuse values that SOMA would round or cast to something else; return whether the column holds text."""
    import pyarrow.types as kinds

    kind = kind.value_type if kinds.is_dictionary(kind) else kind
    is_text = kinds.is_string(kind) or kinds.is_large_string(kind)
    if is_text:
        words, fits = "text", [isinstance(value, str) for value in values]
    elif kinds.is_boolean(kind):
        words, fits = "true or false", [isinstance(value, bool) for value in values]
    elif kinds.is_integer(kind):
        words, fits = "whole numbers", [isinstance(value, int) and not isinstance(value, bool) for value in values]
    elif kinds.is_floating(kind):
        words = "numbers"
        fits = [isinstance(value, int | float) and not isinstance(value, bool) for value in values]
    else:
        msg = f"{setting}: the column of {name} holds {kind}, which data.filters cannot compare; use data.value_filter."
        raise ConfigError(msg)
    if not all(fits):
        wrong = values[fits.index(False)]
        advice = f"; put it in quotes: '{_shown(wrong)}'" if is_text else ""
        msg = f"{setting} is {_shown(wrong)}, but the column of {name} holds {words}{advice}."
        raise ConfigError(msg)
    return is_text


def _check_stored(obs: Any, column: str, values: list[Any], name: str) -> None:
    """Refuse values that are not among those a column lists; a slip of the pen would silently mean fewer cells."""
    import pyarrow.types as kinds

    if not kinds.is_dictionary(obs.schema.field(column).type):
        return
    stored = obs.get_enumeration_values([column])[column].to_pylist()
    for value in values:
        if value not in stored:
            msg = (
                f"{name}: no cell has {column} {_shown(value)} (data.filters.{column})."
                f"{nearest(str(value), map(str, stored))} There are: {listed([*map(str, stored)], _LISTED)}."
            )
            raise DataError(msg)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)
