"""From what a user types to a model class: a registered name, or a class in a module or a file."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from torch import nn

from scmodelforge._errors import ConfigError, nearest
from scmodelforge._registry import MODELS
from scmodelforge.config.load import load_plugins

__all__ = ["find_model_class"]


def find_model_class(target: str, *, folder: Path | None = None) -> type[nn.Module]:
    """Find a model class.

    Parameters
    ----------
    target
        A registered name, or ``module:Class`` or ``file.py:Class``.
    folder
        Where files, and modules that are not installed, are looked for; ``None`` is the current folder.

    Raises
    ------
    ConfigError
        If there is no such name, module, file or class, it cannot be imported, or it is no ``nn.Module`` class.
    """
    folder = Path.cwd() if folder is None else folder
    place, colon, class_name = target.rpartition(":")
    if not colon:
        return _checked(_registered(target, folder), target)
    if not place or not class_name:
        msg = f"'{target}' names no class; write module:Class or file.py:Class, e.g. ./my_model.py:MyModel."
        raise ConfigError(msg)
    module = _from_file(place, folder) if _is_path(place) else _from_module(place, folder)
    found = getattr(module, class_name, None)
    if found is None:
        classes = [n for n, part in vars(module).items() if _is_model(part) and part.__module__ == module.__name__]
        listed = f" Model classes there: {', '.join(classes)}." if classes else " It has no nn.Module class."
        msg = f"{place} has no class '{class_name}'.{nearest(class_name, classes)}{listed}"
        raise ConfigError(msg)
    return _checked(found, target)


def _is_path(place: str) -> bool:
    return place.endswith(".py") or "/" in place or "\\" in place


def _is_model(part: object) -> bool:
    return isinstance(part, type) and issubclass(part, nn.Module)


def _checked(part: object, target: str) -> type[nn.Module]:
    if not isinstance(part, type):
        msg = f"'{target}' is {type(part).__name__}, not a class; name a class that subclasses torch.nn.Module."
        raise ConfigError(msg)
    if not issubclass(part, nn.Module):
        msg = f"'{target}' is not an nn.Module class; let {part.__name__} subclass torch.nn.Module."
        raise ConfigError(msg)
    return part


def _registered(target: str, folder: Path) -> type:
    if _is_path(target) or (folder / f"{target}.py").is_file():
        file = target if _is_path(target) else f"{target}.py"
        if target not in MODELS:
            msg = f"'{target}' names no class; write the class of the model too: {file}:MyModel."
            raise ConfigError(msg)
    return MODELS.get(target)


def _from_file(place: str, folder: Path) -> ModuleType:
    path = folder / place
    if not path.is_file():
        msg = f"no file '{place}' (looked for {path.absolute()}).{nearest(place, _files(path.parent, place))}"
        raise ConfigError(msg)
    if path.suffix != ".py":
        msg = f"'{place}' is no Python file; give a file that ends in .py, or a module with dots: my_package.my_model."
        raise ConfigError(msg)
    return load_plugins([place], folder)[0]


def _files(folder: Path, place: str) -> list[str]:
    prefix = place[: len(place) - len(Path(place).name)]
    return [f"{prefix}{path.name}" for path in folder.glob("*.py")] if folder.is_dir() else []


def _from_module(place: str, folder: Path) -> ModuleType:
    known = [path.stem for path in folder.glob("*.py")]
    if not all(part.isidentifier() for part in place.split(".")):
        msg = f"'{place}' is no name of a module; write module:Class or file.py:Class, e.g. ./my_model.py:MyModel."
        raise ConfigError(msg)
    with _importable(folder):
        try:
            return importlib.import_module(place)
        except Exception as problem:
            if isinstance(problem, ModuleNotFoundError) and f"{place}.".startswith(f"{problem.name}."):
                msg = (
                    f"no module '{place}', neither installed nor in {folder}.{nearest(place, known)} "
                    "Write module:Class or file.py:Class."
                )
                raise ConfigError(msg) from problem
            reason = " ".join(str(problem).split())
            msg = f"module '{place}' failed when it was imported: {type(problem).__name__}: {reason}"
            raise ConfigError(msg) from problem


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    entry = str(folder)
    sys.path.insert(0, entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(entry)
