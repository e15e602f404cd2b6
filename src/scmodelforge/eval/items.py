"""The items that a score is made of, such as single perturbations, as the tables of its record list them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from scmodelforge._errors import listed
from scmodelforge.eval.base import Record

__all__ = ["left_out_elsewhere", "mean_items", "other_items"]


def mean_items(record: Record, name: str) -> dict[str, float] | None:
    """Return the values of a table that the score is the mean of, by the items' names; ``None`` if it is of none."""
    found = {item: value for item, value in _values(record, name).items() if value is not None}
    if any(not isinstance(value, (int, float)) or not math.isfinite(value) for value in found.values()):
        return None
    if not found or record.value is None:
        return None
    is_mean = math.isclose(sum(found.values()) / len(found), record.value, rel_tol=1e-6, abs_tol=1e-9)
    return found if is_mean else None


def other_items(first: Record, second: Record) -> list[str]:
    """Return a text if the tables that two records have do not list the same items."""
    for name, ours, theirs in _shared_tables(first, second):
        if ours.keys() != theirs.keys():
            parts = ("the first", ours.keys() - theirs.keys()), ("the second", theirs.keys() - ours.keys())
            only = [f"{which} only {listed(sorted(items), 3)}" for which, items in parts if items]
            return [f"scores of different items ({name}: {', '.join(only)})"]
    return []


def left_out_elsewhere(first: Record, second: Record) -> list[str]:
    """Return a text if not the same items of a table have no score."""
    for name, *both in _shared_tables(first, second):
        ours, theirs = ({item for item, value in values.items() if value is None} for values in both)
        if ours != theirs:
            return [f"not the same are left out ({name}: {listed(sorted(ours ^ theirs), 3)} scored in one of them)"]
    return []


def _shared_tables(first: Record, second: Record) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for name in first.tables:
        ours, theirs = (_values(record, name) for record in (first, second))
        if ours and theirs:
            yield name, ours, theirs


def _values(record: Record, name: str) -> dict[str, Any]:
    """Return the scores that a table lists, by the names of the items; empty if it lists none."""
    table = record.tables.get(name)
    if not isinstance(table, Mapping) or record.metric not in table:
        return {}
    values = table[record.metric]
    columns = [table[key] for key in sorted(table) if all(isinstance(each, str) for each in table[key])]
    names = [" ".join(words) for words in zip(*columns, strict=True)]
    if len(names) != len(values) or len(set(names)) < len(names):
        return {}
    return dict(zip(names, values, strict=True))
