"""Two sets of results side by side: which scores can be compared, and how far they are apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.eval.base import Record
from scmodelforge.eval.differences import difference_interval
from scmodelforge.eval.items import left_out_elsewhere, mean_items, other_items
from scmodelforge.eval.kinds_of_params import is_told, must_match
from scmodelforge.eval.metrics import bootstrap_mean, interval
from scmodelforge.eval.standing import MODEL

__all__ = ["Comparison", "compare_records", "obstacles", "reservations"]

_SAME = (
    ("dataset_hash", "data"),
    ("split_hash", "split"),
    ("label_key", "label column"),
    ("batch_key", "batch column"),
    ("subsample", "number of cells to choose from"),
    ("higher_is_better", "direction"),
)
_MUST_BE_KNOWN = frozenset({"dataset_hash", "split_hash"})
_SHOWN_OF_A_HASH = 8


@dataclass(frozen=True)
class Comparison:
    """One metric in two sets of results.

    Attributes
    ----------
    key
        The metric: ``eval/<benchmark>/<dataset>/<metric>``.
    first, second
        The two records.
    obstacles
        Why the scores cannot be compared; empty if they can.
    reservations
        What differs and need not matter: versions, seeds.
    difference
        Second less first; ``None`` if they cannot be compared.
    interval
        95 % interval of the difference, ``None`` if the records do not allow one.
    group_interval
        The same over whole groups of cells.
    method
        How the intervals were made.
    """

    key: str
    first: Record
    second: Record
    obstacles: list[str] = field(default_factory=list)
    reservations: list[str] = field(default_factory=list)
    difference: float | None = None
    interval: list[float] | None = None
    group_interval: list[float] | None = None
    method: str = ""

    @property
    def better(self) -> str:
        """Which is better, ``first`` or ``second``; ``undecided`` if an interval holds zero, or there is none."""
        known = [each for each in (self.interval, self.group_interval) if each is not None]
        if self.difference is None or not known or any(low <= 0 <= high for low, high in known):
            return "undecided"
        return "second" if (self.difference > 0) == self.first.higher_is_better else "first"

    def to_dict(self) -> dict[str, Any]:
        """Return all that is known, as plain values."""
        return {
            "key": self.key,
            "first": self.first.value,
            "second": self.second.value,
            "difference": self.difference,
            "interval": self.interval,
            "group_interval": self.group_interval,
            "group_key": self.first.group_key if self.group_interval else None,
            "method": self.method or None,
            "better": self.better,
            "higher_is_better": self.first.higher_is_better,
            "obstacles": self.obstacles,
            "reservations": self.reservations,
        }


def compare_records(
    first: Iterable[Record], second: Iterable[Record], *, representation: str = "model"
) -> list[Comparison]:
    """Compare the metrics that two sets of results both have, and at least one of them with a value.

    Parameters
    ----------
    first, second
        Records of one model each, at one step.
    representation
        What is compared: ``model``, or a baseline.

    Raises
    ------
    DataError
        If a set has a metric twice.
    """
    ours, theirs = (_by_key(records, representation) for records in (first, second))
    shared = [(ours[key], theirs[key]) for key in ours if key in theirs]
    return [_compared(*pair) for pair in shared if any(record.value is not None for record in pair)]


def obstacles(first: Record, second: Record) -> list[str]:
    """Return why two scores of the same metric cannot be compared, one text for each reason."""
    found = []
    for name, what in _SAME:
        values = getattr(first, name), getattr(second, name)
        if name in _MUST_BE_KNOWN and None in values:
            found.append(f"the {what} of one of them is not known (no {name})")
        elif values[0] != values[1]:
            found.append(f"different {what} ({_shown(name, values[0])} and {_shown(name, values[1])})")
    totals = [record.n + record.n_skipped for record in (first, second)]
    if totals[0] != totals[1]:
        found.append(f"different number of cells ({totals[0]:,} and {totals[1]:,})")
    for record in (first, second):
        if record.value is None:  # and its params are not all there
            found.append(f"not scored in one of them: {record.skipped_reason or 'no reason is given'}")
    if first.value is not None and second.value is not None:
        found += other_items(first, second)
        found += _different(first, second, [name for name in _params(first, second) if must_match(name, first.metric)])
        found += _different(first, second, _trained_on_one_side(first, second))
    return list(dict.fromkeys(found))


def reservations(first: Record, second: Record) -> list[str]:
    """Return what differs between two comparable scores and need not matter."""
    found = []
    ours, theirs = ([part.strip() for part in each.library.split(";")] for each in (first, second))
    if ours != theirs:
        left = ", ".join(part for part in ours if part not in theirs) or "none"
        right = ", ".join(part for part in theirs if part not in ours) or "none"
        found.append(f"other versions ({left} and {right})")
    seeds = first.params.get("seed"), second.params.get("seed")
    if seeds[0] != seeds[1]:
        found.append(f"other seeds of probes and intervals ({_text(seeds[0])} and {_text(seeds[1])})")
    if first.n != second.n:
        found.append(f"not as many are left out ({first.n:,} and {second.n:,} of {first.n + first.n_skipped:,} scored)")
    else:
        found += left_out_elsewhere(first, second)
    told = [name for name in _params(first, second) if is_told(name) and name != "seed"]
    return found + _different(first, second, told)


def _params(first: Record, second: Record) -> list[str]:
    return sorted({*first.params, *second.params})


def _different(first: Record, second: Record, names: Iterable[str]) -> list[str]:
    """Return a text for each entry of the params that is not the same."""
    pairs = [(name, first.params.get(name), second.params.get(name)) for name in names]
    return [f"different {name} ({_text(ours)} and {_text(theirs)})" for name, ours, theirs in pairs if ours != theirs]


def _trained_on_one_side(first: Record, second: Record) -> list[str]:
    """Return the facts by which only one of two models was trained on what is scored; baselines are not the model."""
    if MODEL not in (first.representation, second.representation):
        return []
    names = [name for name in _params(first, second) if name.startswith("trained_on")]
    return [name for name in names if {first.params.get(name), second.params.get(name)} == {True, False}]


def _by_key(records: Iterable[Record], representation: str) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for record in records:
        if record.representation != representation:
            continue
        if record.key in found:
            msg = (
                f"{record.key} is there twice for '{representation}' (of {found[record.key].model_id} and "
                f"{record.model_id}); compare results of one model with those of one other."
            )
            raise DataError(msg)
        found[record.key] = record
    return found


def _compared(first: Record, second: Record) -> Comparison:
    why_not = obstacles(first, second)
    if why_not or first.value is None or second.value is None:
        return Comparison(first.key, first, second, obstacles=why_not)
    difference = second.value - first.value
    bounds: list[float] | None
    groups: list[float] | None = None
    paired = _paired(first, second)
    if paired is not None:
        bounds, method = paired
    else:
        bounds = _unpaired(first, second, first.interval, second.interval)
        same_groups = first.group_key is not None and first.group_key == second.group_key
        groups = _unpaired(first, second, first.group_interval, second.group_interval) if same_groups else None
        method = "unpaired" if bounds or groups else "no interval"
    return Comparison(
        first.key,
        first,
        second,
        reservations=reservations(first, second),
        difference=difference,
        interval=bounds,
        group_interval=groups,
        method=method,
    )


def _paired(first: Record, second: Record) -> tuple[list[float], str] | None:
    """Return an interval over the items that both scores are the mean of, if the tables of the records have them."""
    for name in first.tables:
        ours, theirs = (mean_items(record, name) for record in (first, second))
        if ours is None or theirs is None or ours.keys() != theirs.keys() or len(ours) < 2:
            continue
        items = sorted(ours)
        gains = np.array([theirs[item] - ours[item] for item in items])
        draws = bootstrap_mean(gains, seed=int(first.params.get("seed") or 0), purpose="compare")
        found = interval(draws)
        if found is not None:
            return list(found), f"paired over {len(items)} items of {name}"
    return None


def _unpaired(
    first: Record, second: Record, ours: list[float] | None, theirs: list[float] | None
) -> list[float] | None:
    if ours is None or theirs is None or first.value is None or second.value is None:
        return None
    return difference_interval(first.value, ours, second.value, theirs)


def _shown(name: str, value: Any) -> str:
    return str(value)[:_SHOWN_OF_A_HASH] if name.endswith("_hash") else _text(value)


def _text(value: Any) -> str:
    is_count = isinstance(value, int) and not isinstance(value, bool)
    text = "none" if value is None else f"{value:,}" if is_count else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
