"""Which perturbations are held out: by condition, never by cell, and the same for the same seed.

A perturbation's lot is a hash of the seed and its name, so adding conditions changes no other one's by chance alone.

================  ====================================================================================================
``unseen``        genes are held out, and with them every perturbation of one of them; of the combinations whose genes
                  are all trained on, the same share (GEARS: ``simulation``, 0, 1 or 2 genes seen)
``combination``   every perturbation of one gene is trained on, a share of the combinations is held out
``transfer``      a share of the perturbations is held out in one covariate each, and trained on in the others
================  ====================================================================================================
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.data.draws import mix, uniforms
from scmodelforge.data.splits import split_digest
from scmodelforge.eval.perturbation.conditions import CONTROL, Group

__all__ = ["PerturbationSplit", "SplitKind", "fold_perturbations", "read_conditions", "split_perturbations"]

SplitKind = Literal["unseen", "combination", "transfer"]
_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class PerturbationSplit:
    """Perturbations to train on, to choose models by, and to score. Controls are on every side.

    Attributes
    ----------
    train, validation, test
        Perturbations in alphabetical order.
    kind, seed, held_out
        How they were chosen.
    """

    train: tuple[Group, ...]
    validation: tuple[Group, ...]
    test: tuple[Group, ...]
    kind: str
    seed: int
    held_out: float

    def to_dict(self) -> dict[str, Any]:
        """Return the split as plain values, with a hash of them."""
        body = {"kind": self.kind, "seed": self.seed, "held_out": self.held_out}
        body |= {part: [list(group) for group in getattr(self, part)] for part in _PARTS}
        return {**body, "hash": split_digest(body)}

    def write(self, path: Path) -> str:
        """Write the split to a file and return its hash."""
        stored = self.to_dict()
        temporary = path.with_name(path.name + ".writing")
        temporary.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
        return str(stored["hash"])


def split_perturbations(
    groups: Iterable[Group],
    kind: SplitKind,
    *,
    seed: int = 0,
    held_out: float = 0.3,
    measured: Collection[str] | None = None,
) -> PerturbationSplit:
    """Split perturbations. Half of what is held out is for validation.

    Parameters
    ----------
    groups
        All there are; controls are passed over.
    kind
        See the module.
    seed
        Seed of the draws.
    held_out
        Share of genes (``unseen``), combinations or perturbations that is held out.
    measured
        Names of the measured genes: perturbations of others are dropped. ``None`` keeps all.

    Raises
    ------
    ConfigError
        If the kind is unknown or the share is not between 0 and 1.
    DataError
        If nothing can be held out this way, or nothing would be left to train on.
    """
    if kind not in get_args(SplitKind):
        msg = f"kind of split is '{kind}'; it must be {', '.join(get_args(SplitKind))}."
        raise ConfigError(msg)
    if not 0 < held_out < 1:
        msg = f"held_out is {held_out}; a share between 0 and 1 is needed."
        raise ConfigError(msg)
    known = sorted({group for group in groups if group.perturbation != CONTROL})
    if measured is not None:
        known = [group for group in known if set(group.targets) <= set(measured)]
    chosen = {"unseen": _unseen, "combination": _combinations, "transfer": _transfer}[kind](known, seed, held_out)
    train = tuple(group for group in known if group not in chosen)
    if not chosen or not train:
        what = "to hold out" if not chosen else "left to train on"
        msg = f"a split by '{kind}' of {len(known)} perturbations leaves nothing {what}; choose another kind or share."
        raise DataError(msg)
    names = sorted({group.perturbation for group in chosen})
    of_test = set(_drawn(names, seed, "test", 0.5, round_up=True))
    test = tuple(sorted(group for group in chosen if group.perturbation in of_test))
    return PerturbationSplit(train, tuple(sorted(chosen - set(test))), test, kind, seed, held_out)


def fold_perturbations(
    groups: Iterable[Group], kind: SplitKind, *, folds: int, seed: int = 0, held_out: float = 0.3
) -> list[PerturbationSplit]:
    """Split perturbations into folds: each gene, combination or perturbation is scored in one of them.

    Parameters
    ----------
    groups, kind, seed
        As of :func:`split_perturbations`.
    folds
        Number of folds.
    held_out
        Half of it is the share of what a fold does not score that is for validation.

    Raises
    ------
    DataError
        If there is less to hold out than folds, or nothing would be left to train on or to choose a model by.
    """
    known = sorted({group for group in groups if group.perturbation != CONTROL})
    units = _units(known, kind)
    names = sorted({name for own in units.values() for name in own})
    if len(names) < folds:
        what = {"unseen": "genes", "combination": "combinations"}.get(kind, "perturbations in several covariates")
        msg = f"--folds {folds} is more than the {len(names)} {what} that can be held out; ask for fewer."
        raise DataError(msg)
    order = np.argsort(_lots(names, seed, "fold"), kind="stable")
    fold_of = {names[place]: number % folds for number, place in enumerate(order)}
    choose = {"unseen": _unseen, "combination": _combinations, "transfer": _transfer}[kind]
    of_each = _transfer(known, seed, 1.0) if kind == "transfer" else set(known)
    found = []
    for fold in range(folds):
        test = {group for group in of_each if any(fold_of[name] == fold for name in units[group])}
        rest = [group for group in known if group not in test]
        validation = choose(rest, seed, held_out / 2)
        train = [group for group in rest if group not in validation]
        if not train or not validation:
            what = "to choose a model by" if train else "to train on"
            msg = f"--folds {folds} of {len(known)} perturbations leaves nothing {what} in one of them; ask for others."
            raise DataError(msg)
        parts = [tuple(sorted(each)) for each in (train, validation, test)]
        found.append(PerturbationSplit(parts[0], parts[1], parts[2], kind, seed, held_out))
    return found


def read_conditions(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Read conditions from a file: a split, or a list of training conditions.

    Parameters
    ----------
    path
        JSON that :meth:`PerturbationSplit.write` wrote, or text with a condition a line; a covariate may stand before
        it with a tab between.

    Returns
    -------
    Pairs of covariate and condition under ``train``, and of a split under ``validation`` and ``test`` too.

    Raises
    ------
    DataError
        If the file is not there, empty, not the split that was written, or a line has other columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    except (OSError, UnicodeDecodeError) as problem:
        msg = f"{path} cannot be read ({problem}); name a text file with a training condition a line, or a split."
        raise DataError(msg) from problem
    if text.lstrip().startswith("{"):
        return _read_split(path, text)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        msg = f"{path} names no condition; write one a line."
        raise DataError(msg)
    return {"train": [_pair(path, number, line) for number, line in lines]}


def _pair(path: Path, number: int, line: str) -> tuple[str, str]:
    """Return covariate and condition that a line names."""
    parts = [part.strip() for part in line.split("\t")]
    if len(parts) > 2 or not all(parts):
        what = f"{len(parts)} columns" if len(parts) > 2 else "an empty column"
        msg = (
            f"{path}, line {number} ('{line.strip()}') has {what}; write a condition, or covariate, tab and condition."
        )
        raise DataError(msg)
    return (parts[0], parts[1]) if len(parts) == 2 else ("", parts[0])


def _read_split(path: Path, text: str) -> dict[str, list[tuple[str, str]]]:
    try:
        stored = json.loads(text)
        found = {part: [(str(covariate), str(name)) for covariate, name in stored[part]] for part in _PARTS}
    except (ValueError, KeyError, TypeError) as problem:
        msg = f"{path} is no split of perturbations ({problem}); make one with split_perturbations(...).write(path)."
        raise DataError(msg) from problem
    if stored.get("hash") != split_digest({name: value for name, value in stored.items() if name != "hash"}):
        msg = f"{path} is damaged or was edited: its hash does not fit its content; write the split again."
        raise DataError(msg)
    return found


def _units(known: Sequence[Group], kind: SplitKind) -> dict[Group, list[str]]:
    """Return the names by which each perturbation is held out; none if it never is."""
    if kind == "unseen":
        return {group: list(group.targets) for group in known}
    times = Counter(group.perturbation for group in known)
    if kind == "transfer":
        return {group: [group.perturbation] if times[group.perturbation] > 1 else [] for group in known}
    return {group: [group.perturbation] if len(group.targets) > 1 else [] for group in known}


def _unseen(known: Sequence[Group], seed: int, share: float) -> set[Group]:
    genes = sorted({gene for group in known for gene in group.targets})
    hidden = set(_drawn(genes, seed, "gene", share))
    seen = {group.perturbation for group in known if len(group.targets) > 1 and not hidden & set(group.targets)}
    both = set(_drawn(sorted(seen), seed, "combination", share))
    return {group for group in known if hidden & set(group.targets) or group.perturbation in both}


def _combinations(known: Sequence[Group], seed: int, share: float) -> set[Group]:
    names = sorted({group.perturbation for group in known if len(group.targets) > 1})
    chosen = set(_drawn(names, seed, "combination", share))
    return {group for group in known if group.perturbation in chosen}


def _transfer(known: Sequence[Group], seed: int, share: float) -> set[Group]:
    where: dict[str, list[str]] = defaultdict(list)
    for group in known:
        where[group.perturbation].append(group.covariate)
    names = sorted(name for name, covariates in where.items() if len(covariates) > 1)
    chosen = set()
    for name in _drawn(names, seed, "transfer", share):
        covariates = sorted(where[name])
        place = int(_lots([name], seed, "covariate")[0] * len(covariates))
        chosen.add(Group(covariates[place], name))
    return chosen


def _drawn(names: Sequence[str], seed: int, purpose: str, share: float, *, round_up: bool = False) -> list[str]:
    """Return a share of the names, at least one of several."""
    count = len(names) * share
    number = int(np.ceil(count)) if round_up else max(round(count), min(len(names) - 1, 1))
    return [names[place] for place in np.argsort(_lots(names, seed, purpose), kind="stable")[:number]]


def _lots(names: Sequence[str], seed: int, purpose: str) -> np.ndarray:
    keys = np.array([int(mix(seed, "perturbation split", name)) for name in names], dtype=np.uint64)
    return uniforms(keys, purpose)
