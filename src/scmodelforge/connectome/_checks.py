"""What can be wrong with regions, their genes and their connectivity: each fault is one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scmodelforge._errors import DataError, listed

__all__ = [
    "FEWEST_REGIONS",
    "check_complete",
    "checked_labels",
    "checked_mapping",
    "checked_names",
    "is_symmetric",
    "missing_by_table",
    "missing_regions",
    "numbers",
]

FEWEST_REGIONS = 2
"""Regions of the smallest data set that has a pair."""

_LISTED = 5
_AXES = 3


def numbers(values: Any, label: str, shape: tuple[int | None, int | None], meaning: str) -> np.ndarray:
    """Return a table as float32, after its shape was compared with what is needed.

    Parameters
    ----------
    values
        Array, tensor or data frame.
    label
        What messages call it.
    shape
        Rows and columns it must have; ``None`` for any number.
    meaning
        What rows and columns are, for messages.

    Raises
    ------
    DataError
        If it is no table of numbers, or of another shape.
    """
    try:
        table = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as problem:
        msg = f"{label} holds something that is not a number ({problem}); it needs {meaning}."
        raise DataError(msg) from problem
    fits = table.ndim == 2 and all(want in (None, have) for have, want in zip(table.shape, shape, strict=True))
    if not fits:
        wanted = " x ".join("any" if want is None else f"{want:,}" for want in shape)
        msg = f"{label} has the shape {table.shape}; it needs {meaning} ({wanted})."
        raise DataError(msg)
    return table


def checked_mapping(mapping: Mapping[int, int] | None, num_rows: int) -> dict[int, int]:
    """Return the region number of each row as whole numbers; each row its own for ``None``.

    Raises
    ------
    DataError
        If the keys are not 0 to R - 1, with at most ``num_rows`` of them, or two rows have one number.
    """
    if mapping is None:
        return {row: row for row in range(num_rows)}
    if not isinstance(mapping, Mapping):
        msg = f"valid2true_mapping is {type(mapping).__name__}; a mapping of rows of X to region numbers is needed."
        raise DataError(msg)
    found = {int(row): int(number) for row, number in mapping.items()}
    if sorted(found) != list(range(len(found))) or len(found) > num_rows:
        msg = (
            f"valid2true_mapping has {len(found):,} rows, {_range_of(found)}, and X has {num_rows:,}; it needs each "
            f"row of X as a key, 0 to {num_rows - 1}, and as its value the region's number in the full atlas."
        )
        raise DataError(msg)
    if len(set(found.values())) < len(found):
        msg = "valid2true_mapping gives two rows the same region of the atlas; each region needs a number of its own."
        raise DataError(msg)
    return dict(sorted(found.items()))


def checked_names(names: Sequence[str] | None, label: str, count: int, *, needs: str) -> list[str]:
    """Return names, all different, one for each of ``count`` things; numbers for ``None``.

    Raises
    ------
    DataError
        If there are more or fewer, or two are equal.
    """
    if names is None:
        return [str(number) for number in range(count)]
    found = [str(name) for name in names]
    if len(found) != count:
        msg = f"{label} has {len(found):,} names; {needs} needs one each, {count:,}."
        raise DataError(msg)
    seen: set[str] = set()
    twice = [name for name in found if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        msg = f"{label} has the same name twice ({listed(twice, _LISTED)}); each needs one of its own."
        raise DataError(msg)
    return found


def checked_labels(labels: Sequence[str] | None, label: str, count: int) -> np.ndarray | None:
    """Return a label of each region, shape (R,), or ``None``.

    Raises
    ------
    DataError
        If there are more or fewer than regions.
    """
    if labels is None:
        return None
    found = np.asarray([str(each) for each in labels])
    if len(found) != count:
        msg = f"{label} has {len(found):,} labels; each of the {count:,} regions needs one."
        raise DataError(msg)
    return found


def check_complete(X: np.ndarray, Y: np.ndarray, coords: np.ndarray | None, names: Sequence[str]) -> None:
    """Refuse missing and infinite values, but for those of the diagonal of Y.

    Raises
    ------
    DataError
        If there are any; the message names the regions.
    """
    bad_pairs = ~np.isfinite(Y) & ~np.eye(len(Y), dtype=bool)
    tables = {"X": ~np.isfinite(X).all(axis=1), "Y": _regions_of(bad_pairs)}
    if coords is not None:
        tables["coords"] = ~np.isfinite(coords).all(axis=1)
    for label, is_bad in tables.items():
        if is_bad.any():
            which = [f"{row} ('{names[int(row)]}')" for row in np.flatnonzero(is_bad)]
            msg = (
                f"{label} has NaN or infinite values in {len(which)} regions: {listed(which, _LISTED)}. Leave these "
                "regions out of X, Y and coords; without_missing of scmodelforge.connectome does it."
            )
            raise DataError(msg)


def is_symmetric(Y: np.ndarray) -> bool:
    """Return whether a matrix is the same from either side, to rounding of its largest entry; its diagonal is free."""
    free = np.where(np.eye(len(Y), dtype=bool), 0, Y)
    return bool(np.abs(free - free.T).max() <= 1e-5 * np.abs(free).max())


def missing_regions(X: np.ndarray, Y: np.ndarray, coords: np.ndarray | None) -> np.ndarray:
    """Return which regions have no expression, no coordinates, or no connectivity with those that have, shape (R,)."""
    return np.any(list(missing_by_table(X, Y, coords).values()), axis=0)


def missing_by_table(X: np.ndarray, Y: np.ndarray, coords: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return which regions have missing or infinite values in X, coords and Y, each of shape (R,).

    Those of Y are of pairs of regions that have all of the rest.
    """
    found = {"X": ~np.isfinite(X).all(axis=1)}
    if coords is not None:
        found["coords"] = ~np.isfinite(coords).all(axis=1)
    lost = np.any(list(found.values()), axis=0)
    bad = ~np.isfinite(Y) & ~np.eye(len(Y), dtype=bool)
    bad[lost] = bad[:, lost] = False
    return {**found, "Y": _regions_of(bad)}


def _regions_of(bad_pairs: np.ndarray) -> np.ndarray:
    """Return the regions that must go for no bad pair to be left, those with most first, shape (R,)."""
    bad = bad_pairs | bad_pairs.T
    found = np.zeros(len(bad), dtype=bool)
    while bad.any():
        worst = int(np.argmax(bad.sum(axis=1)))
        found[worst] = True
        bad[worst] = bad[:, worst] = False
    return found


def _range_of(keys: Mapping[int, int]) -> str:
    return f"keys {min(keys)} to {max(keys)}" if keys else "no keys"
