"""Which group a cell belongs to, how many draws each group gets in a pass, and how often that makes each cell seen.

A pass has as many draws as there are cells. A group's draws go around its cells in a fixed random order and each pass
goes on where the one before ended, so that within a pass, and over any number of passes, the cells of a group are seen
equally often, give or take one. Where the pass begins is arithmetic: nothing is remembered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scmodelforge._errors import ConfigError, listed, nearest
from scmodelforge.config.schema import SamplingConfig
from scmodelforge.data.draws import generator
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.splits import MISSING_GROUP

__all__ = ["CellGroups", "Draws", "cell_groups", "group_draws", "smallest"]

_LISTED = 10  # groups named in a message
_CELLS_PER_STEP = 1 << 20  # bounds temporary arrays


@dataclass(frozen=True)
class CellGroups:
    """Groups of the training cells.

    Attributes
    ----------
    codes
        Group of each cell, shape (N,), unsigned integers.
    names
        Names of the groups, shape (G,). Each has at least one cell.
    """

    codes: np.ndarray
    names: list[str]

    @property
    def sizes(self) -> np.ndarray:
        """Number of cells of each group, shape (G,), int64."""
        return np.bincount(self.codes, minlength=len(self.names))


def cell_groups(source: CellSource, by: str, positions: np.ndarray, *, setting: str) -> CellGroups:
    """Return the groups of some cells.

    Parameters
    ----------
    source
        The source of the cells.
    by
        An obs column; ``file`` for the file of the cell, ``source`` for its entry of ``data.sources``.
    positions
        The cells, shape (N,), int64, ascending.
    setting
        Where ``by`` was set, for messages.

    Raises
    ------
    ConfigError
        If the data have no such column, or ``by`` is ``source`` and they are no mixture.
    """
    if by in ("file", "source"):
        codes, names = _by_file(source, positions, setting) if by == "source" else _files(source, positions)
    else:
        if by not in source.obs_columns:
            msg = (
                f"{setting} names the obs column '{by}', which the data do not have."
                f"{nearest(by, source.obs_columns)} There are: {', '.join(source.obs_columns)}."
            )
            raise ConfigError(msg)
        found, categories = source.obs(by)
        codes, names = found[positions], [*categories, MISSING_GROUP]
        codes = np.where(codes < 0, len(categories), codes)
    present = np.flatnonzero(np.bincount(codes, minlength=len(names)))
    renumbered = np.zeros(len(names), dtype=smallest(len(present)))
    renumbered[present] = np.arange(len(present))
    return CellGroups(renumbered[codes], [names[code] for code in present])


def group_draws(groups: CellGroups, config: SamplingConfig) -> np.ndarray:
    """Return the draws of each group in a pass, shape (G,), int64; their sum is the number of cells.

    Shares become whole numbers by largest remainders.

    Parameters
    ----------
    groups
        The groups.
    config
        ``mode`` ``weighted`` or ``balanced``, with ``temperature`` or ``weights``.

    Raises
    ------
    ConfigError
        If ``weights`` does not name exactly the groups there are, or has no positive number.
    """
    sizes = groups.sizes
    if config.mode == "balanced":
        shares = np.ones(len(sizes))
    elif config.weights is not None:
        shares = _given(config.weights, groups.names)
    else:
        shares = np.exp((np.log(sizes) - np.log(sizes.max())) / config.temperature)
    exact = shares / shares.sum() * len(groups.codes)
    draws = np.floor(exact).astype(np.int64)
    left = len(groups.codes) - int(draws.sum())
    draws[np.argsort(draws - exact, kind="stable")[:left]] += 1
    return draws


class Draws:
    """How often each cell is seen in a pass.

    Parameters
    ----------
    groups
        The groups.
    num_draws
        Draws of each group in a pass, shape (G,), int64.
    seed
        Seed of the order in which the cells of a group are drawn.
    """

    def __init__(self, groups: CellGroups, num_draws: np.ndarray, *, seed: int) -> None:
        self.groups, self.num_draws = groups, num_draws
        self._sizes = groups.sizes
        order = generator(seed, "draws").permutation(len(groups.codes))
        order = order[np.argsort(groups.codes[order], kind="stable")]
        starts = np.cumsum(self._sizes) - self._sizes
        self._ranks = np.empty(len(order), dtype=smallest(len(order)))
        self._ranks[order] = np.arange(len(order)) - np.repeat(starts, self._sizes)

    def counts(self, data_pass: int) -> np.ndarray:
        """Return how often each cell is seen in a pass, shape (N,), int64."""
        whole, extra = np.divmod(self.num_draws, self._sizes)
        first = np.array([data_pass * each % size for each, size in zip(extra.tolist(), self._sizes, strict=True)])
        counts = np.empty(len(self._ranks), dtype=np.int64)
        for start in range(0, len(counts), _CELLS_PER_STEP):
            part = slice(start, start + _CELLS_PER_STEP)
            group = self.groups.codes[part]
            turn = (self._ranks[part].astype(np.int64) - first[group]) % self._sizes[group]
            counts[part] = whole[group] + (turn < extra[group])
        return counts

    def describe(self) -> str:
        """Return the share of each group in a pass and among the cells, largest first."""
        total = len(self.groups.codes)
        order = np.argsort(-self.num_draws, kind="stable")
        shown = [
            f"{self.groups.names[g]} {self.num_draws[g] / total:.1%} (of the cells {self._sizes[g] / total:.1%})"
            for g in order
        ]
        return listed(shown, _LISTED)


def smallest(count: int) -> type[np.integer]:
    """Return the smallest type, unsigned below 64 bits, for the numbers below ``count``."""
    kinds: tuple[type[np.integer], ...] = (np.uint8, np.uint16, np.uint32, np.int64)  # uint64 - int64 were floats
    return next(kind for kind in kinds if count - 1 <= np.iinfo(kind).max)


def _files(source: CellSource, positions: np.ndarray) -> tuple[np.ndarray, list[str]]:
    ends = np.cumsum(source.file_sizes)
    return np.searchsorted(ends, positions, side="right"), [panel.name for panel in source.panels]


def _by_file(source: CellSource, positions: np.ndarray, setting: str) -> tuple[np.ndarray, list[str]]:
    entries = getattr(source, "file_entries", None)
    if entries is None:
        msg = f"{setting} is 'source', but data.source is no mixture of several; use 'file' or an obs column."
        raise ConfigError(msg)
    files, _ = _files(source, positions)
    return np.asarray(entries)[files], [str(entry) for entry in range(max(entries) + 1)]


def _given(weights: dict[str, float], names: list[str]) -> np.ndarray:
    unknown = [name for name in weights if name not in names]
    missing = [name for name in names if name not in weights]
    if unknown:
        msg = (
            f"data.sampling.weights names '{unknown[0]}', which no training cell belongs to."
            f"{nearest(unknown[0], names)} There are: {_listed(names)}."
        )
        raise ConfigError(msg)
    if missing:
        msg = f"data.sampling.weights does not name every group; add {_listed(missing)} (0 leaves a group out)."
        raise ConfigError(msg)
    shares = np.array([weights[name] for name in names], dtype=np.float64)
    if (shares < 0).any() or not shares.any():
        msg = "data.sampling.weights must be 0 or more, and at least one above 0; correct them."
        raise ConfigError(msg)
    return shares


def _listed(names: list[str]) -> str:
    return listed([f"'{name}'" for name in names], _LISTED)
