"""Python files that a model or a run brings along: where they may lie, and how they travel with a folder.

A folder may come from anyone, so what it names must be its own: a file ``plugins/NAME.py`` in it, or the name of an
installed module. In the cache of the hub's client the files of a snapshot are links to ``blobs`` of its repository;
other links that lead out of the folder are refused.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from scmodelforge._errors import ConfigError, DataError

__all__ = ["check_plugin_names", "copy_plugins", "find_plugins", "require_inside"]

FOLDER = "plugins"
_FILE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\.py")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def find_plugins(folder: Path, names: Iterable[str]) -> list[str]:
    """Return the plugins that a model folder names: paths of its own files, and names of modules.

    Parameters
    ----------
    folder
        The model folder.
    names
        What its ``config.json`` names.

    Raises
    ------
    DataError
        If one is neither ``plugins/NAME.py`` nor the name of a module, is not there, or is a link to elsewhere.
    """
    found = []
    for name in names:
        place, _, file = name.rpartition("/")
        if place == FOLDER and _FILE.fullmatch(file):
            path = folder / FOLDER / file
            if not path.is_file():
                msg = f"{folder}: config.json names the plugin '{name}', which is not there; export the model again."
                raise DataError(msg)
            require_inside(folder, path)
            found.append(str(path))
        elif _MODULE.fullmatch(name) and not name.endswith(".py"):
            found.append(name)
        else:
            msg = (
                f"{folder / 'config.json'}: plugins has {name!r}; a file {FOLDER}/NAME.py of the folder, or the name "
                "of an installed module, is needed. Take the model from whom you trust, or export it again."
            )
            raise DataError(msg)
    return found


def require_inside(folder: Path, path: Path) -> None:
    """Refuse a file that is a link out of its folder; one to where the hub's client keeps files is none.

    Raises
    ------
    DataError
        If it is one.
    """
    home, target = folder.resolve(), path.resolve()
    blobs = _blobs_of(home)
    if target.is_relative_to(home) or (blobs is not None and target.is_relative_to(blobs)):
        return
    msg = f"{path} is a link to {target}, out of the model folder; put the file itself there."
    raise DataError(msg)


def check_plugin_names(plugins: Iterable[str]) -> None:
    """Refuse plugins that a folder cannot keep beside each other.

    Parameters
    ----------
    plugins
        Paths of Python files, and names of modules.

    Raises
    ------
    ConfigError
        If two are different files of one name, or one has a name that cannot be loaded from the folder again.
    """
    files = {Path(plugin).resolve(): Path(plugin).name for plugin in plugins if plugin.endswith(".py")}
    wrong = [name for name in files.values() if not _FILE.fullmatch(name)]
    if wrong:
        msg = (
            f"plugin '{wrong[0]}': a model keeps its plugins under their names, of letters, digits, '_' and '-' before "
            ".py; rename the file."
        )
        raise ConfigError(msg)
    name, times = Counter(name.casefold() for name in files.values()).most_common(1)[0] if files else ("", 0)
    if times > 1:
        two = " and ".join(str(path) for path, each in files.items() if each.casefold() == name)
        msg = f"plugins {two} have one file name, and a model keeps them in one folder; rename one."
        raise ConfigError(msg)


def copy_plugins(plugins: list[str], folder: Path) -> list[str]:
    """Copy plugin files into a folder, so that it can be moved, and return their names in it; modules stay names.

    Raises
    ------
    ConfigError
        As of :func:`check_plugin_names`; nothing is copied then.
    """
    check_plugin_names(plugins)
    names = []
    for plugin in plugins:
        source = Path(plugin)
        if source.suffix != ".py":
            names.append(plugin)
            continue
        target = folder / FOLDER / source.name
        target.parent.mkdir(exist_ok=True)
        if source.resolve() != target.resolve():
            shutil.copyfile(source, target)
        names.append(f"{FOLDER}/{source.name}")
    return list(dict.fromkeys(names))


def _blobs_of(folder: Path) -> Path | None:
    """Return where the hub's client keeps the files of the repository that a folder of its cache is of."""
    for place in (folder, *folder.parents):
        if place.parent.name == "snapshots" and place.parent.parent.name.startswith("models--"):
            return place.parent.parent / "blobs"
    return None
