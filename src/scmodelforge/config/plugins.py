"""A user's own Python files and modules, imported before settings are read: they register parts."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from scmodelforge._errors import ConfigError

__all__ = ["load_plugins"]


def load_plugins(names: Sequence[str], base: Path) -> list[ModuleType]:
    """Import plugins and return their modules.

    One that was imported already is left alone, also when it is another copy of the same file.

    Parameters
    ----------
    names
        Python files (``.py``), relative to ``base``, or names of installed modules.
    base
        Folder of the settings file or model that names them.

    Raises
    ------
    ConfigError
        If a plugin is not there or its import fails; the message names the plugin.
    """
    return [
        _import_file(name, (base / name).absolute()) if name.endswith(".py") else _import_module(name) for name in names
    ]


def _import_file(name: str, path: Path) -> ModuleType:
    try:
        code = path.read_bytes()
    except OSError as problem:
        msg = f"plugin '{name}' cannot be read ({path}: {problem.strerror}); paths are relative to the settings file."
        raise ConfigError(msg) from problem
    # Named by content: a model folder keeps a copy of the plugin, which registers the same names.
    module_name = f"scmodelforge_plugin_{path.stem}_{hashlib.sha256(code).hexdigest()[:12]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pydantic look their module up while it runs
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        del sys.modules[module_name]
        raise ConfigError(_failure(name, problem, file=str(path))) from problem
    return module


def _import_module(name: str) -> ModuleType:
    absent = f"plugin '{name}' is no installed module; write a file with its ending, .py, or install the module."
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(absent)
    try:
        return importlib.import_module(name)
    except Exception as problem:
        if isinstance(problem, ModuleNotFoundError) and f"{name}.".startswith(f"{problem.name}."):
            raise ConfigError(absent) from problem
        raise ConfigError(_failure(name, problem)) from problem


def _failure(name: str, problem: Exception, *, file: str | None = None) -> str:
    """Return one line that says where in the plugin the import failed, and why."""
    frames = traceback.extract_tb(problem.__traceback__)
    line = next((frame.lineno for frame in reversed(frames) if frame.filename == file), None)
    if isinstance(problem, SyntaxError):
        line = problem.lineno
    where = f" in line {line}" if line is not None else ""
    reason = " ".join(str(problem).split())
    return f"plugin '{name}' failed{where} when it was imported: {type(problem).__name__}: {reason}"
