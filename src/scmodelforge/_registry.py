"""What can be extended: one registry for each kind of part.

A registry knows its home package and imports the modules in it on first use, so that adding a part means adding
one file. Other packages offer parts through entry points (``scmodelforge.<kind>``), imported only when asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TypeVar

from scmodelforge._errors import ConfigError, nearest

__all__ = [
    "BENCHMARKS",
    "CONNECTOME_BASELINES",
    "CONNECTOME_MODELS",
    "IMPORTERS",
    "MODELS",
    "OBJECTIVES",
    "SOURCES",
    "TOKENIZERS",
    "Registry",
]

T = TypeVar("T", bound=type)


class Registry:
    """Classes under names.

    Parameters
    ----------
    kind
        What the parts are, in the singular; also the entry point group ``scmodelforge.<kind>``.
    home
        Package whose modules register the built-in parts.
    """

    def __init__(self, kind: str, home: str) -> None:
        self.kind = kind
        self.home = home
        self._parts: dict[str, type] = {}
        self._is_loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Return a class decorator that stores the class under ``name`` and returns it unchanged.

        Raises
        ------
        ValueError
            If the name is taken.
        """

        def decorate(part: T) -> T:
            if name in self._parts:
                msg = (
                    f"{self.kind} '{name}' is already registered, by {_where(self._parts[name])}. Choose another name."
                )
                raise ValueError(msg)
            self._parts[name] = part
            return part

        return decorate

    def get(self, name: str) -> type:
        """Return the class registered as ``name``.

        Raises
        ------
        ConfigError
            If there is none; the message lists the names there are.
        """
        self._load_home()
        if name not in self._parts:
            for entry in self._entry_points():
                if entry.name == name:
                    part = entry.load()
                    self._parts.setdefault(name, part)
        if name not in self._parts:
            names = self.names()
            msg = f"unknown {self.kind} '{name}'.{nearest(name, names)} Registered: {', '.join(names)}."
            raise ConfigError(msg)
        return self._parts[name]

    def __contains__(self, name: str) -> bool:
        """Tell whether a name is registered; what is installed is looked through only for one that is not known."""
        self._load_home()
        return name in self._parts or any(entry.name == name for entry in self._entry_points())

    def names(self) -> list[str]:
        """Return all registered names, sorted."""
        self._load_home()
        return sorted({*self._parts, *(entry.name for entry in self._entry_points())})

    def _entry_points(self) -> list:
        return list(entry_points(group=f"scmodelforge.{self.kind.replace(' ', '_')}"))

    def _load_home(self) -> None:
        if self._is_loaded:
            return
        self._is_loaded = True  # set first: the modules may ask the registry themselves
        try:
            package = importlib.import_module(self.home)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.home}.{module.name}")
        except BaseException:
            self._is_loaded = False
            raise


def _where(part: type) -> str:
    return f"{part.__module__}.{part.__qualname__}"


MODELS = Registry("model", "scmodelforge.models")
TOKENIZERS = Registry("tokenizer", "scmodelforge.tokenizers")
OBJECTIVES = Registry("objective", "scmodelforge.objectives")
SOURCES = Registry("data source", "scmodelforge.data.sources")
BENCHMARKS = Registry("benchmark", "scmodelforge.eval.benchmarks")
IMPORTERS = Registry("importer", "scmodelforge.hub.importers")
TASKS = Registry("task", "scmodelforge.finetuning.tasks")
HEADS = Registry("head", "scmodelforge.finetuning.tasks")  # that of cell types is in scmodelforge.models
CONNECTOME_MODELS = Registry("connectome model", "scmodelforge.connectome.models")
CONNECTOME_BASELINES = Registry("connectome baseline", "scmodelforge.connectome.baselines")
