"""The split of a data set known by name: the same cells held out for everybody who evaluates on it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from scmodelforge import datasets
from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import SplitConfig
from scmodelforge.data.draws import mix
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.data.split_files import write_split
from scmodelforge.data.splits import CellSplit, split_cells
from scmodelforge.datasets import SplitRecipe
from scmodelforge.workflows.outputs import check_output
from scmodelforge.workflows.prepare import open_source

__all__ = ["held_out_groups", "recipe_split", "write_recipe"]

_log = logging.getLogger(__name__)

#: Groups held out at least, so that scores of batches are defined.
_LEAST = 2


def recipe_split(source: CellSource, recipe: SplitRecipe, name: str, *, excluded: np.ndarray) -> CellSplit:
    """Return the split of a data set by its recipe.

    The groups are drawn from all cells, so that cells a model cannot use change neither the groups nor the side of
    another cell. If the sides have other sizes than the recipe expects, a warning says so.

    Parameters
    ----------
    source
        The cells.
    recipe
        What is held out.
    name
        Name of the data set.
    excluded
        Positions of cells that belong to neither side, such as empty ones.

    Raises
    ------
    DataError
        If the data do not have the recipe's column or its groups.
    """
    codes, categories = source.obs(recipe.by)
    sizes = np.bincount(codes[codes >= 0], minlength=len(categories))
    present = {str(group): int(size) for group, size in zip(categories, sizes, strict=True) if size}
    groups = held_out_groups(recipe, present, name)
    settings = SplitConfig(
        by=recipe.by, validation_groups=groups, validation_fraction=recipe.fraction, seed=recipe.seed
    )
    found = split_cells(source, settings, excluded=np.zeros(0, dtype=np.int64))
    _compare(found, recipe, name)
    usable = replace(
        found,
        train=np.setdiff1d(found.train, excluded, assume_unique=True),
        validation=np.setdiff1d(found.validation, excluded, assume_unique=True),
    )
    if not len(usable.train) or not len(usable.validation):
        side = "trained" if not len(usable.train) else "held-out"
        msg = f"data set '{name}': none of the {side} cells of its split has a gene of the vocabulary; use another one."
        raise DataError(msg)
    return usable


def held_out_groups(recipe: SplitRecipe, sizes: Mapping[str, int], name: str) -> list[str]:
    """Return the groups that a recipe holds out.

    Parameters
    ----------
    recipe
        The recipe.
    sizes
        Cells of each group.
    name
        Name of the data set, for messages.

    Raises
    ------
    DataError
        If a group that is kept is not there, or too few groups are left to choose from.
    """
    for group in recipe.keep:
        if group not in sizes:
            msg = f"data set '{name}': no cell has '{group}' in '{recipe.by}', so it is not the file that is expected."
            raise DataError(msg)
    names: dict[str, list[str]] = {}  # by the name that all spellings of a combination share
    for group in sorted(set(sizes) - set(recipe.keep)):
        if recipe.separator is None:
            names[group] = [group]
        elif recipe.separator in group:
            names.setdefault(recipe.separator.join(sorted(group.split(recipe.separator))), []).append(group)
    order = sorted(names, key=lambda group: int(mix(recipe.seed, "split recipe", group)))
    if len(order) <= _LEAST:
        msg = f"data set '{name}' has {len(order)} groups of '{recipe.by}' to hold out; more than {_LEAST} are needed."
        raise DataError(msg)
    weights = [sum(sizes[each] for each in names[group]) if recipe.share_of == "cells" else 1 for group in order]
    wanted = recipe.fraction * (sum(sizes.values()) if recipe.share_of == "cells" else len(order))
    before = np.cumsum(weights) - weights
    count = min(max(int(np.count_nonzero(before < wanted)), _LEAST), len(order) - 1)
    return sorted(each for group in order[:count] for each in names[group])


def write_recipe(name: str, out: Path, *, force: bool) -> list[str]:
    """Write the split of a data set to a file that ``data.split.file`` may name, and return what to say about it.

    Raises
    ------
    ConfigError, DataError
        If the data set is not on this machine, has no recipe, or the file exists and ``force`` is not set.
    """
    check_output(out, force=force)
    recipe = datasets.info(name).split
    if recipe is None:
        msg = f"data set '{name}' has no split of its own; make one: scmodelforge data split dataset://{name} -o {out}"
        raise ConfigError(msg)
    source = open_source(LocalDataConfig(paths=[f"dataset://{name}"]))
    try:
        found = recipe_split(source, recipe, name, excluded=np.zeros(0, dtype=np.int64))
        digest = write_split(out, found, source, expression=None)
    finally:
        getattr(source, "close", lambda: None)()
    return [found.describe(), f"split: {out} (hash {digest[:12]})", f"next: set data.split.file to {out}"]


def _compare(found: CellSplit, recipe: SplitRecipe, name: str) -> None:
    expected, sizes = (recipe.train, recipe.heldout), (len(found.train), len(found.validation))
    if any(wanted not in (None, size) for wanted, size in zip(expected, sizes, strict=True)):
        _log.warning(
            f"data set '{name}': its split has {sizes[0]:,} cells to fit on and {sizes[1]:,} held out, "
            f"{expected[0]:,} and {expected[1]:,} were expected: the data differ, so scores do not compare"
        )
