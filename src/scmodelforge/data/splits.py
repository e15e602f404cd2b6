"""Which cells are held out from training: whole groups of an obs column (donors), or single cells."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError, DataError, listed, nearest
from scmodelforge.config.schema import SplitConfig
from scmodelforge.data.draws import generator, mix
from scmodelforge.data.protocols import CellSource

__all__ = ["DONOR_COLUMNS", "MISSING_GROUP", "CellSplit", "split_cells", "split_digest"]

DONOR_COLUMNS = (
    "donor_id", "donor", "donor_ID", "Donor", "donor_name", "patient", "patient_id", "Patient", "individual",
    "individual_id", "subject", "subject_id", "participant_id", "sample_id",
)  # fmt: skip
"""obs columns taken for donors by ``data.split.by: auto``, in this order."""

MISSING_GROUP = "(missing)"
"""Name of the group of cells without a value in the column."""

_ENOUGH_CELLS = 10  # of a group, for ``auto`` to split by its column
_LISTED = 5  # groups named in a message


@dataclass(frozen=True)
class CellSplit:
    """Cells to train on and cells held out.

    Attributes
    ----------
    train, validation
        Positions in the source, ascending, int64.
    by
        The obs column whose groups stayed together, or ``cells``.
    seed, fraction
        The settings of the choice.
    groups
        Groups held out; empty when split by cells.
    num_groups
        Groups there were.
    num_missing
        Cells without a value in the column, which are one of the groups. Not stored.
    """

    train: np.ndarray
    validation: np.ndarray
    by: str
    seed: int
    fraction: float
    groups: list[str] = field(default_factory=list)
    num_groups: int = 0
    num_missing: int = 0

    def describe(self) -> str:
        """Return one line that says what was held out."""
        cells = f"{len(self.validation):,} of {len(self.train) + len(self.validation):,} cells"
        if not len(self.validation):
            return f"held out no cells; all {len(self.train):,} are trained on"
        if self.by == "cells":
            return f"held out {cells}, drawn cell by cell"
        kind = "donors" if self.by in DONOR_COLUMNS else "groups"
        names = listed(self.groups, _LISTED)
        missing = f"; {self.num_missing:,} cells without {self.by} count as one of them" if self.num_missing else ""
        return f"held out {len(self.groups):,} of {self.num_groups:,} {kind} ({self.by}: {names}), {cells}{missing}"

    def to_dict(self) -> dict[str, Any]:
        """Return the split as plain values: the cells as ``[start, stop]`` ranges, and a hash of everything."""
        body = {
            "by": self.by,
            "seed": self.seed,
            "fraction": self.fraction,
            "groups": list(self.groups),
            "num_groups": self.num_groups,
            "num_train": len(self.train),
            "num_validation": len(self.validation),
            "train": _to_ranges(self.train),
            "validation": _to_ranges(self.validation),
        }
        return {**body, "hash": split_digest(body)}

    @classmethod
    def from_dict(cls, data: dict[str, Any], *, origin: str = "splits.json") -> CellSplit:
        """Return the split that :meth:`to_dict` described; ``origin`` is the file it comes from, for messages.

        Raises
        ------
        DataError
            If the content does not fit its hash.
        """
        body = {name: value for name, value in data.items() if name != "hash"}
        found = split_digest(body)
        if data.get("hash") != found:
            msg = (
                f"The stored split ({origin}) is damaged or was edited: its hash is {data.get('hash')}, its content "
                f"has {found}. Restore the file, or start a new run."
            )
            raise DataError(msg)
        return cls(
            train=_from_ranges(data["train"]),
            validation=_from_ranges(data["validation"]),
            by=data["by"],
            seed=data["seed"],
            fraction=data["fraction"],
            groups=list(data["groups"]),
            num_groups=data["num_groups"],
        )


def split_cells(source: CellSource, config: SplitConfig, *, excluded: np.ndarray) -> CellSplit:
    """Divide the cells of a source into those trained on and those held out.

    Groups are drawn in a random order and held out whole until the wanted share is reached, but never all of them.
    Single cells are chosen by a hash of their position, so that cells keep their side, but for a few at the edge,
    when files are added at the end.

    Parameters
    ----------
    source
        The cells.
    config
        How to split.
    excluded
        Positions of cells that belong to neither side, such as empty ones.

    Raises
    ------
    DataError
        If the column or a group does not exist, or a side that is wanted gets no cell.
    ConfigError
        If groups are named without a column they belong to.
    """
    kept = np.ones(sum(source.file_sizes), dtype=bool)
    kept[np.asarray(excluded, dtype=np.int64)] = False
    cells = np.flatnonzero(kept)
    if not len(cells):
        msg = f"No cells are left to split: all {len(kept):,} cells of the data are excluded as empty."
        raise DataError(msg)
    column = _column(source, config, kept)
    if column is None:
        held, groups, num_groups, num_missing = _draw_cells(cells, config), [], 0, 0
    else:
        members, names = _members(source, column, kept)
        groups = _draw_groups(members, names, column, config)
        held = np.isin(members, [names.index(group) for group in groups])
        num_groups = len(names)
        num_missing = int(np.count_nonzero(members == names.index(MISSING_GROUP))) if MISSING_GROUP in names else 0
    if held.all():
        what = (
            f"validation_groups ({listed(groups, _LISTED)})"
            if groups
            else f"validation_fraction ({config.validation_fraction})"
        )
        msg = f"data.split.{what} holds out all {len(cells):,} cells and leaves none to train on; hold out less."
        raise DataError(msg)
    return CellSplit(
        train=cells[~held],
        validation=cells[held],
        by=column or "cells",
        seed=config.seed,
        fraction=config.validation_fraction,
        groups=groups,
        num_groups=num_groups,
        num_missing=num_missing,
    )


def split_digest(body: dict[str, Any]) -> str:
    """Return the hash that a stored split has, of all its other entries."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _column(source: CellSource, config: SplitConfig, kept: np.ndarray) -> str | None:
    """Return the obs column to split by, or ``None`` for single cells."""
    named = config.validation_groups is not None
    if config.by == "cells" and named:
        msg = (
            "data.split.validation_groups names groups, but data.split.by is 'cells'; set it to the groups' obs column."
        )
        raise ConfigError(msg)
    if config.by == "cells":
        return None
    if config.by != "auto":
        return config.by
    there = [column for column in DONOR_COLUMNS if column in source.obs_columns]
    if named:
        if not there:
            msg = (
                "data.split.validation_groups names groups, but the data have no donor column; "
                f"set data.split.by to the groups' obs column. There are: {', '.join(source.obs_columns)}."
            )
            raise ConfigError(msg)
        return there[0]
    for column in there:
        members, names = _members(source, column, kept)
        if np.count_nonzero(np.bincount(members, minlength=len(names)) >= _ENOUGH_CELLS) >= 2:
            return column
    return None


def _members(source: CellSource, column: str, kept: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the group of each kept cell as codes, and the names of the groups that have cells."""
    codes, categories = source.obs(column)
    names = [*categories, MISSING_GROUP]
    codes = np.where(codes < 0, len(categories), codes)[kept]
    present, members = np.unique(codes, return_inverse=True)
    return members, [str(names[code]) for code in present]


def _draw_groups(members: np.ndarray, names: list[str], column: str, config: SplitConfig) -> list[str]:
    """Return the names of the groups to hold out."""
    if config.validation_groups is not None:
        for group in config.validation_groups:
            if group not in names:
                msg = (
                    f"data.split.validation_groups names '{group}', which no cell has in '{column}'."
                    f"{nearest(group, names)} There are: {listed(sorted(names), _LISTED)}."
                )
                raise DataError(msg)
        return list(dict.fromkeys(config.validation_groups))
    if config.validation_fraction == 0:
        return []
    if len(names) < 2:
        msg = (
            f"data.split.by is '{column}', but all cells belong to one group of it ({names[0]}); "
            "set data.split.by to 'cells' or to a column with several groups."
        )
        raise DataError(msg)
    sizes = np.bincount(members, minlength=len(names))
    order = generator(config.seed, "split").permutation(len(names))[:-1]
    wanted = config.validation_fraction * len(members)
    before = np.cumsum(sizes[order]) - sizes[order]
    return [names[group] for group in order[before < wanted]]


def _draw_cells(cells: np.ndarray, config: SplitConfig) -> np.ndarray:
    """Return which cells are held out, those with the smallest draws, as a mask."""
    held = np.zeros(len(cells), dtype=bool)
    if config.validation_fraction == 0:
        return held
    count = round(config.validation_fraction * len(cells))
    if count == 0:
        msg = (
            f"data.split.validation_fraction ({config.validation_fraction}) of {len(cells):,} cells is less than one "
            "cell; raise it, or set it to 0 to hold out nothing."
        )
        raise DataError(msg)
    held[np.argsort(mix(config.seed, "split", cells), kind="stable")[:count]] = True
    return held


def _to_ranges(positions: np.ndarray) -> list[list[int]]:
    """Return ascending positions as ``[start, stop]`` ranges."""
    breaks = np.flatnonzero(np.diff(positions) > 1)
    starts = positions[np.concatenate([[0], breaks + 1])] if len(positions) else positions
    stops = positions[np.concatenate([breaks, [len(positions) - 1]])] + 1 if len(positions) else positions
    return [[int(start), int(stop)] for start, stop in zip(starts, stops, strict=True)]


def _from_ranges(ranges: list[list[int]]) -> np.ndarray:
    parts = [np.arange(start, stop, dtype=np.int64) for start, stop in ranges]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
