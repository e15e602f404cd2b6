"""Errors a user can mend. The command line prints their message alone and exits with status 2."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import SupportsIndex

__all__ = [
    "ConfigError",
    "DataError",
    "Interrupted",
    "LostProcess",
    "NotSaved",
    "RunError",
    "UserError",
    "listed",
    "nearest",
    "require_whole",
]


_LEAST_BEGINNING = 3


class UserError(ValueError):
    """Wrong input: the message says what was seen, what is needed and what to do."""


class ConfigError(UserError):
    """A setting that is wrong, unknown or in conflict with another one."""


class DataError(UserError):
    """A file or folder that is missing, damaged or does not hold what is needed."""


class Interrupted(RuntimeError):  # noqa: N818 - not a failure: the run was asked to stop
    """A run that stopped because it was asked to, after it had saved its state."""


class NotSaved(Interrupted):
    """A run that stopped and whose last steps could not be saved: the message says what there is."""


class RunError(RuntimeError):
    """A run that cannot go on, for no fault of its settings: the message says why. The exit status is 1."""


class LostProcess(RuntimeError):  # noqa: N818 - what happened, to another one
    """A process of a distributed run is gone, and with it the run."""


def listed(names: Sequence[str], most: int) -> str:
    """Return some names one after another, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def require_whole(name: str, value: object, least: int) -> None:
    """Refuse an argument that is no whole number, or below the least.

    Raises
    ------
    ConfigError
        If it is.
    """
    if not isinstance(value, SupportsIndex) or isinstance(value, bool) or value.__index__() < least:
        msg = f"{name} is {value!r}; a whole number of at least {least} is needed."
        raise ConfigError(msg)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the words ' Did you mean ...?' for the known name that ``name`` begins or is closest to, or nothing."""
    known = list(known)
    begun = [each for each in known if len(name) >= _LEAST_BEGINNING and each.startswith(f"{name}_")]
    found = begun if len(begun) == 1 else get_close_matches(name, known, n=1, cutoff=0.6)
    return f" Did you mean '{found[0]}'?" if found else ""
