"""Which perturbations of which cells a user asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np

from scmodelforge._errors import ConfigError, DataError, require_whole
from scmodelforge.eval.genes.changed_cells import Kind
from scmodelforge.workflows.cell_states import cells_where, drawn_cells, groups_by
from scmodelforge.workflows.perturbed_genes import require_choice
from scmodelforge.workflows.ready_cells import COMMAND, PYTHON, ReadyCells

__all__ = ["IN_COMMAND", "IN_PYTHON", "METHODS", "ChosenCells", "Perturbing", "chosen_cells"]

METHODS = ("exact", "gradient")
_FEWEST = 2  # cells of a state


@dataclass(frozen=True)
class Perturbing:
    """What is done to which cells; :func:`scmodelforge.tl.perturb` says what each is."""

    genes: str | Sequence[str] = "all"
    kind: str = "delete"
    combine: str = "each"
    cells: str | None = None
    per: str | None = None
    from_state: str | None = None
    to_state: str | None = None
    method: str = "exact"
    max_cells: int | None = None
    random_genes: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        require_choice("perturb.kind", self.kind, get_args(Kind))
        require_choice("perturb.method", self.method, METHODS)
        if self.max_cells is not None:
            require_whole("max_cells", self.max_cells, _FEWEST)
        require_whole("random_genes", self.random_genes, 0)
        require_whole("seed", self.seed, 0)
        if self.from_state is not None and self.to_state is None:
            msg = "perturb.from_state needs perturb.to_state, the goal; to choose cells alone use perturb.cells."
            raise ConfigError(msg)


_NAMES = list(Perturbing.__dataclass_fields__)
IN_PYTHON = {**PYTHON, **{f"perturb.{name}": name for name in _NAMES}}
IN_COMMAND = {**COMMAND, **{f"perturb.{name}": f"--{name.replace('_', '-')}" for name in _NAMES}}


@dataclass(frozen=True)
class ChosenCells:
    """The cells of a screen, by position.

    Attributes
    ----------
    groups
        Names and cells of the groups that are perturbed; without ``per`` one, without a name.
    goal
        Cells whose mean embedding is the goal, if there is one.
    """

    groups: list[tuple[str, np.ndarray]]
    goal: np.ndarray | None

    @property
    def positions(self) -> np.ndarray:
        """All cells that are perturbed, ascending."""
        return np.unique(np.concatenate([cells for _, cells in self.groups]))


def chosen_cells(cells: ReadyCells, asked: Perturbing) -> ChosenCells:
    """Return the cells that are asked for, of those that have a gene the model knows.

    Raises
    ------
    ConfigError, DataError
        If a column, value or state is not there, or has fewer than two cells.
    """
    source, usable = cells.source, np.zeros(cells.report.num_cells, dtype=bool)
    usable[cells.positions] = True
    is_meant = usable.copy()
    if asked.cells is not None:
        is_meant &= cells_where(source, asked.cells, setting="perturb.cells")
    is_goal = None
    if asked.to_state is not None:
        is_goal = usable & cells_where(source, asked.to_state, setting="perturb.to_state")
        _require_some(is_goal, f"perturb.to_state {asked.to_state!r} holds for")
        if asked.from_state is None:
            is_meant &= ~is_goal
        else:
            is_from = usable & cells_where(source, asked.from_state, setting="perturb.from_state")
            _require_some(is_from, f"perturb.from_state {asked.from_state!r} holds for")
            if (is_from & is_goal).any():
                both = int((is_from & is_goal).sum())
                msg = f"{both:,} cells are in perturb.from_state and in perturb.to_state; name states that are apart."
                raise ConfigError(msg)
            is_meant &= is_from
    _require_some(is_meant, "the perturbed cells are")
    groups = [("", np.flatnonzero(is_meant))]
    if asked.per is not None:
        groups = [
            (name, own[is_meant[own]])
            for name, own in groups_by(source, asked.per, setting="perturb.per")
            if is_meant[own].any()
        ]
        if not groups:
            msg = f"none of the perturbed cells has a value in obs column '{asked.per}' (perturb.per); name another."
            raise ConfigError(msg)
    drawn = partial(drawn_cells, source, most=asked.max_cells, seed=asked.seed)
    goal = None if is_goal is None else drawn(np.flatnonzero(is_goal))
    return ChosenCells([(name, drawn(own)) for name, own in groups], goal)


def _require_some(is_chosen: np.ndarray, words: str) -> None:
    if (count := int(is_chosen.sum())) < _FEWEST:
        msg = f"{words} {count} of {len(is_chosen):,} cells with known genes; at least {_FEWEST} are needed."
        raise DataError(msg)
