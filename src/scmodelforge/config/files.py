"""Settings as text: reading YAML and TOML files and ``a.b=c`` overrides, and writing YAML.

YAML 1.1 as PyYAML reads it has surprises. Here ``1e-4`` is a number, ``12:30``, ``2024-01-31`` and ``007`` are text,
and a key that is written twice is a mistake instead of a silent replacement.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from scmodelforge._errors import ConfigError
from scmodelforge.config.faults import Faults, shown

__all__ = ["read_overrides", "read_settings", "set_values", "write_yaml"]

_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_BOOL = re.compile(r"^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$")
_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)


def read_settings(path: Path, faults: Faults) -> dict[str, Any]:
    """Read a settings file.

    Parameters
    ----------
    path
        A YAML (``.yaml``, ``.yml``) or TOML (``.toml``) file.
    faults
        Gets a line for each key that is written twice.

    Returns
    -------
    The settings as written.

    Raises
    ------
    ConfigError
        If the file is missing, empty, not readable, not a mapping, or not valid YAML or TOML.
    """
    readers = {".yaml": _parse_yaml, ".yml": _parse_yaml, ".toml": _parse_toml}
    if path.suffix.lower() not in readers:
        msg = f"{path}: unknown kind of settings file '{path.suffix}'; use .yaml, .yml or .toml."
        raise ConfigError(msg)
    text = _read_text(path)
    raw = readers[path.suffix.lower()](text, faults)
    if raw is None or raw == {}:
        msg = f"{path}: the file is empty; it must have at least the section 'data'."
        raise ConfigError(msg)
    if not isinstance(raw, dict):
        msg = f"{path}: the file holds {shown(raw)}; it must hold sections such as 'data:' with settings below them."
        raise ConfigError(msg)
    return raw


def read_overrides(overrides: Sequence[str], faults: Faults) -> dict[str, Any]:
    """Read overrides: ``a.b=c`` to the value of ``a.b``; the value is YAML.

    Parameters
    ----------
    overrides
        The texts of the command line.
    faults
        Gets a line for each that cannot be read.
    """
    values = {}
    for override in overrides:
        path, equals, text = override.partition("=")
        path = path.strip()
        if not equals or not all(path.split(".")):
            faults.add("", f"--set {override} is not of the form section.setting=value.")
            continue
        faults.add_overrides({path: override})
        try:
            values[path] = _parse_yaml(text, faults, path=path)
        except ConfigError:
            faults.add(path, f"'{text.strip()}' cannot be read as a value; put text in quotes.")
    return values


def set_values(raw: Mapping[str, Any], values: Mapping[str, Any], faults: Faults) -> dict[str, Any]:
    """Return a copy of the settings with some values set; missing sections are made, and noted in ``faults``."""
    changed = deepcopy(dict(raw))
    for path, value in values.items():
        section = changed
        *parents, key = path.split(".")
        for depth, name in enumerate(parents, start=1):
            if section.get(name) is None:
                section[name] = {}
                faults.add_made(".".join(parents[:depth]), path)
            section = section[name]
            if not isinstance(section, dict):
                faults.add(
                    path, f"'{'.'.join(parents[:depth])}' is {shown(section)}, not a section; set it as a whole."
                )
                break
        else:
            section[key] = value
    return changed


def write_yaml(values: Mapping[str, Any]) -> str:
    """Return YAML text that :func:`read_settings` and any other YAML reader give the same values for."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000_000)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as problem:
        msg = f"{path}: no such file; check the path of the settings file."
        raise ConfigError(msg) from problem
    except UnicodeDecodeError as problem:
        msg = f"{path}: not a text file in UTF-8; save it as UTF-8."
        raise ConfigError(msg) from problem
    except OSError as problem:
        msg = f"{path}: cannot be read ({problem.strerror})."
        raise ConfigError(msg) from problem


def _parse_toml(text: str, faults: Faults) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        msg = f"{faults.origin}: not valid TOML: {problem}."
        raise ConfigError(msg) from problem


def _parse_yaml(text: str, faults: Faults, *, path: str = "") -> Any:
    try:
        loader = _Loader(text)
        loader.faults, loader.path = faults, path
        value = loader.get_single_data()
        json.dumps(value, default=str)  # an anchor that holds itself is a ValueError here
        return value
    except yaml.MarkedYAMLError as problem:
        raise ConfigError(f"{faults.origin}: {_place(problem, text)}") from problem
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        msg = f"{faults.origin}: not valid YAML: {' '.join(str(problem).split())}."
        raise ConfigError(msg) from problem


def _place(problem: yaml.MarkedYAMLError, text: str) -> str:
    """Return what is wrong and in which line."""
    mark = problem.problem_mark or problem.context_mark
    number = 1 if mark is None else mark.line + 1
    lines = text.splitlines()
    # The reader often notices a tab one token later, so the line before is looked at as well.
    for candidate in (number, number - 1):
        if 0 < candidate <= len(lines) and re.match(r" *\t", lines[candidate - 1]):
            return f"line {candidate} is indented with a tab; YAML wants spaces."
    reason = problem.problem or problem.context or "not valid"
    return f"line {number}: not valid YAML: {reason}."


class _Loader(yaml.SafeLoader):
    """Safe YAML with numbers as people write them, text keys, and no key twice."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 - PyYAML's own way: a table of the class
    faults: Faults
    path: str

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            key.tag = "tag:yaml.org,2002:str"
            line = key.start_mark.line + 1
            if key.value in lines:
                text = (
                    f"line {line}: '{key.value}' is written twice, first in line {lines[key.value]}; keep one of them."
                )
                self.faults.add(self.path, text)
            lines.setdefault(key.value, line)
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes all text that this or another reader would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # PyYAML folds these line ends into spaces unless it is made to escape them.
        style = '"' if any(end in data for end in "\r\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


for _tag, _pattern, _first in (
    ("null", _NULL, ["~", "n", "N", ""]),
    ("bool", _BOOL, list("yYnNtTfFoO")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+0123456789.")),
    ("merge", re.compile("^<<$"), ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _first)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
_Dumper.add_representer(str, _Dumper.represent_str)
