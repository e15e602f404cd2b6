"""One fact, one home: other spellings of a setting are moved to where it lives before anything is parsed."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from scmodelforge._errors import ConfigError
from scmodelforge.config.faults import Faults, shown

__all__ = ["ALIASES", "NUM_GPUS", "drop_other_spellings", "move_to_homes"]

#: Spelling to home.
ALIASES = {
    "training.lr": "training.optimizer.lr",
    "data.max_genes": "tokenizer.max_genes",
    "tokenizer.gene_vocab": "data.gene_vocab",
    "model.mask_ratio": "tokenizer.masking.mask_ratio",
}
NUM_GPUS = "training.num_gpus"
_NUM_GPUS_HOMES = ("training.accelerator", "training.devices")


def move_to_homes(raw: dict[str, Any], faults: Faults) -> dict[str, Any]:
    """Return a copy of the settings in which every fact stands in its home.

    Parameters
    ----------
    raw
        Settings as written.
    faults
        Gets a line for each fact with two different values and for each spelling that cannot be read; learns how
        the moved settings were spelled.
    """
    moved = deepcopy(raw)
    for spelling, home in ALIASES.items():
        if _has(moved, spelling):
            _move(moved, spelling, _take(moved, spelling), home, faults)
    if _has(moved, NUM_GPUS):
        _move_num_gpus(moved, _take(moved, NUM_GPUS), faults)
    _name_benchmarks(moved, faults)
    return moved


def drop_other_spellings(raw: dict[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """Return a copy of the settings without what is about to be set under another spelling.

    An override of ``training.lr`` also replaces a file's ``training.optimizer.lr``, instead of contradicting it.
    """
    kept = deepcopy(raw)
    groups = [{spelling, home} for spelling, home in ALIASES.items()]
    groups += [{NUM_GPUS, home} for home in _NUM_GPUS_HOMES]
    for path in paths:
        for group in groups:
            for other in group - {path} if path in group else ():
                if _has(kept, other):
                    _take(kept, other)
    return kept


def _move(moved: dict[str, Any], spelling: str, value: Any, home: str, faults: Faults) -> None:
    if _has(moved, home) and _get(moved, home) != value:
        faults.add(
            home,
            f"{spelling} ({shown(value)}) and {home} ({shown(_get(moved, home))}) are one setting with two values; "
            "keep one of them.",
        )
        return
    if not _has(moved, home) and _put(moved, home, value):
        faults.add_spellings({home: spelling})


def _move_num_gpus(moved: dict[str, Any], value: Any, faults: Faults) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        faults.add(NUM_GPUS, f"{NUM_GPUS} is {shown(value)}; it must be a whole number, 0 or more.")
        return
    meant = {"training.accelerator": "gpu", "training.devices": value} if value else {"training.accelerator": "cpu"}
    for home, implied in meant.items():
        if _has(moved, home) and _get(moved, home) != implied:
            faults.add(
                NUM_GPUS,
                f"{NUM_GPUS} ({value}) means {home} {shown(implied)}, but {home} is {shown(_get(moved, home))}; "
                "keep one of them.",
            )
        else:
            _put(moved, home, implied)


def _name_benchmarks(moved: dict[str, Any], faults: Faults) -> None:
    """Turn ``- name`` and ``- name: {...}`` into ``- {name: name, ...}``."""
    benchmarks = _get(moved, "eval.benchmarks") if _has(moved, "eval.benchmarks") else None
    if not isinstance(benchmarks, list):
        return
    named: list[dict[str, Any] | None] = []
    for position, entry in enumerate(benchmarks):
        path = f"eval.benchmarks[{position}]"
        try:
            named.append(_named(entry))
        except ConfigError as problem:
            faults.add(path, f"{path} {problem}")
            named.append(None)  # keeps the positions of those after it
    moved["eval"]["benchmarks"] = named


def _named(entry: Any) -> dict[str, Any]:
    if isinstance(entry, str):
        return {"name": entry}
    if not isinstance(entry, dict) or not entry:
        msg = f"is {shown(entry)}; it must be the name of a benchmark, or the name with a section of settings."
        raise ConfigError(msg)
    if "name" in entry:
        return entry
    (name, settings), *others = entry.items()
    if others:
        keys = ", ".join(key for key, _ in others)
        msg = f"has several keys; indent {keys} further than '{name}', or write 'name: {name}'."
        raise ConfigError(msg)
    if settings is not None and not isinstance(settings, dict):
        msg = f"has {shown(settings)} below '{name}'; it must be a section of settings."
        raise ConfigError(msg)
    return {**(settings or {}), "name": name}


def _parent(settings: dict[str, Any], path: str) -> tuple[Any, str]:
    """Return what holds a setting, ``None`` if that is not there or not a section, and the setting's key."""
    *parents, key = path.split(".")
    section: Any = settings
    for name in parents:
        section = section.get(name) if isinstance(section, dict) else None
    return (section if isinstance(section, dict) else None), key


def _has(settings: dict[str, Any], path: str) -> bool:
    section, key = _parent(settings, path)
    return section is not None and key in section


def _get(settings: dict[str, Any], path: str) -> Any:
    section, key = _parent(settings, path)
    return section[key]


def _take(settings: dict[str, Any], path: str) -> Any:
    section, key = _parent(settings, path)
    return section.pop(key)


def _put(settings: dict[str, Any], path: str, value: Any) -> bool:
    """Set a value, making sections on the way; return whether nothing else was in the way."""
    *parents, key = path.split(".")
    section = settings
    for name in parents:
        if section.get(name) is None:
            section[name] = {}
        section = section[name]
        if not isinstance(section, dict):
            return False
    section[key] = value
    return True
