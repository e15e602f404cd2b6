"""All mistakes of a settings file, collected so that they are told together, one line each."""

from __future__ import annotations

from collections.abc import Mapping

from scmodelforge._errors import ConfigError
from scmodelforge.config.section import Section

__all__ = ["Faults", "is_below", "shown"]

_LONGEST = 60


class Faults:
    """Mistakes found so far.

    Parameters
    ----------
    origin
        The settings file, with which each line begins.
    root
        What such a file holds; ``None`` is a :class:`~scmodelforge.config.schema.RunConfig`.
    """

    def __init__(self, origin: str, root: type[Section] | None = None) -> None:
        self.origin, self.root = origin, root
        self._overrides: dict[str, str] = {}
        self._made: dict[str, str] = {}
        self._spellings: dict[str, str] = {}
        self._found: list[tuple[str, str]] = []

    def add(self, path: str, text: str) -> None:
        """Add a mistake.

        Parameters
        ----------
        path
            The setting it is about, empty for the whole file. Decides whether the line names the file or a ``--set``.
        text
            What was seen, what is needed and what to do.
        """
        fault = (path, text)
        if fault not in self._found:
            self._found.append(fault)

    def add_spellings(self, spellings: Mapping[str, str]) -> None:
        """Remember settings that the user wrote in another place than their home: home to spelling."""
        self._spellings.update(spellings)

    def add_overrides(self, overrides: Mapping[str, str]) -> None:
        """Remember settings that came from the command line: path to the text given there."""
        self._overrides.update(overrides)

    def add_made(self, section: str, override: str) -> None:
        """Remember a section that is there only because the command line set something below it: path to that path."""
        self._made.setdefault(section, override)

    def spelling(self, path: str) -> str:
        """Return the setting's path as the user wrote it."""
        for home, written in self._spellings.items():
            if is_below(path, home):
                return written + path[len(home) :]
        return path

    def __bool__(self) -> bool:
        return bool(self._found)

    def has(self, path: str) -> bool:
        """Tell whether a mistake in the setting or below it is known."""
        return any(is_below(found, path) for found, _ in self._found)

    def raise_if_any(self) -> None:
        """Raise all mistakes as one error.

        Raises
        ------
        ConfigError
            If there are any; its text has one line for each.
        """
        if self._found:
            raise ConfigError("\n".join(f"{self._where(path)}: {text}" for path, text in self._found))

    def _where(self, path: str) -> str:
        written = self.spelling(path)
        written = self._made.get(written, written)
        for overridden, text in self._overrides.items():
            if is_below(written, overridden):
                return f"--set {text}"
        return self.origin


def is_below(path: str, other: str) -> bool:
    """Tell whether a setting is another one or lies below it."""
    return path == other or path.startswith((f"{other}.", f"{other}["))


def shown(value: object) -> str:
    """Return a value as a settings file has it, shortened."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
