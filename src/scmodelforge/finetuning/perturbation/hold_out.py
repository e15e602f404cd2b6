"""Which perturbations of a screen are held out: by a choice, or as a file says."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from scmodelforge._errors import DataError, listed
from scmodelforge.eval.perturbation.conditions import CONTROL, Conditions, Group
from scmodelforge.eval.perturbation.splits import PerturbationSplit, read_conditions, split_perturbations
from scmodelforge.finetuning.perturbation.screen import Screen

__all__ = ["HoldOut", "split_screen"]

HoldOut = Literal["unseen", "combination", "transfer"]


def split_screen(
    screen: Screen,
    kind: HoldOut | None,
    *,
    file: str | None,
    held_out: float,
    seed: int,
    dropped: Collection[Group] = (),
) -> PerturbationSplit:
    """Return which perturbations are trained on, choose models, and are scored.

    Parameters
    ----------
    screen
        The perturbations.
    kind
        As of :func:`~scmodelforge.eval.perturbation.splits.split_perturbations`; ``None`` is ``unseen``.
    file
        A split that was written, or a list of training conditions, of which half of the others are scored.
    held_out, seed
        As of there.
    dropped
        Perturbations that the file may name although the screen has them no more.

    Raises
    ------
    ConfigError, DataError
        If nothing can be held out this way, or the file names perturbations that are not in the screen.
    """
    if file is None:
        return split_perturbations(screen.groups, kind or "unseen", seed=seed, held_out=held_out)
    stored = read_conditions(Path(file))
    named = {name for pairs in stored.values() for _, name in pairs}
    known = {group.perturbation for group in screen.groups}
    conditions = Conditions.of({*named, *known, screen.columns.control}, control=screen.columns.control)
    controls = {CONTROL, *screen.control_names}
    parts = {
        part: {Group(covariate, conditions.name(name)) for covariate, name in pairs if name not in controls}
        for part, pairs in stored.items()
    }
    _check_named(set().union(*parts.values()) - {*screen.groups, *dropped}, screen, file)
    parts = {part: own & set(screen.groups) for part, own in parts.items()}
    train = parts["train"]
    rest = sorted(set(screen.groups) - train)
    test = parts.get("test", set(rest[::2]))
    validation = parts.get("validation", set(rest) - test)
    if not train or not test:
        msg = (
            f"{file} leaves {len(train)} of {len(screen.groups)} perturbations to train on and {len(test)} to score; "
            "name conditions as the data do, with the covariate and a tab before each if there is one."
        )
        raise DataError(msg)
    ordered = [tuple(sorted(each)) for each in (train, validation, test)]
    share = len(rest) / len(screen.groups)
    return PerturbationSplit(ordered[0], ordered[1], ordered[2], kind="file", seed=seed, held_out=share)


def _check_named(unknown: set[Group], screen: Screen, file: str) -> None:
    if not unknown:
        return
    named, there = (sorted(group.label for group in groups) for groups in (unknown, screen.groups))
    msg = (
        f"{file} names {len(named)} perturbation(s) that no cell of the data has: {listed(named, 10)}. There are: "
        f"{listed(there, 5)}. Name them as the data do, with the covariate and a tab before each if there is one."
    )
    raise DataError(msg)
