"""What pydantic found wrong with a section, in our words, with the setting's path and the nearest right key."""

from __future__ import annotations

import types
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError

from scmodelforge._errors import nearest
from scmodelforge.config.aliases import ALIASES, NUM_GPUS
from scmodelforge.config.faults import Faults, shown
from scmodelforge.config.parts import PARTS
from scmodelforge.config.schema import BenchmarkConfig, DataConfig, RunConfig, Section

__all__ = ["add_problems", "add_unknown", "is_mixture", "nested_section"]

_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def add_problems(problem: ValidationError, section: type[Section], path: str, owner: str, faults: Faults) -> None:
    """Add all that is wrong with a section.

    Parameters
    ----------
    problem
        What pydantic raised.
    section
        The class that was validated.
    path
        Its place in the file, such as ``model`` or ``eval.benchmarks[0]``.
    owner
        Whose settings they are, for what is missing: ``source 'local'``.
    faults
        Gets the lines.
    """
    found = []
    for error in problem.errors(include_url=False):
        place, holder, expected = _locate(section, path, error["loc"])
        if error["type"] == "extra_forbidden":
            add_unknown(str(error["loc"][-1]), holder, place.rpartition(".")[0], faults)
        else:
            found.append((place, _explain(error, faults.spelling(place), expected, owner)))
    for place, text in found:
        # One choice of `str | list[str]` complains of the whole, the other of the element: the latter says more.
        is_whole = any(other != place and other.startswith(f"{place}[") for other, _ in found)
        if not is_whole and not faults.has(place):
            faults.add(place, text)


def add_unknown(key: str, section: type[Section], path: str, faults: Faults) -> None:
    """Add a line for a setting that is not in a section: where it belongs, or the nearest one that is."""
    place = f"{path}.{key}" if path else key
    root = faults.root or RunConfig
    spellings = [each for each in (*ALIASES, NUM_GPUS) if each.rpartition(".")[0] == path and root is RunConfig]
    known = [*section.model_fields, *(each.rpartition(".")[2] for each in spellings)]
    hint = _whereabouts(key, path, root) or nearest(key, known) or _nearest_below(key, path, root)
    if not hint:
        there = f"Settings of '{path}'" if path else "Sections"
        hint = f" {there}: {', '.join(known)}."
    faults.add(place, f"unknown setting '{place}'.{hint}")


def nested_section(annotation: Any) -> type[Section] | None:
    """Return the section that a field holds (itself, optional or in a list), if it holds one."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = (nested_section(argument) for argument in get_args(annotation))
    return next((each for each in found if each is not None), None)


def is_mixture(section: type[Section]) -> bool:
    """Tell whether these are settings of data that come from several sources, listed in ``sources``."""
    field = section.model_fields.get("sources")
    return field is not None and nested_section(field.annotation) is DataConfig


def _locate(section: type[Section], path: str, loc: tuple[int | str, ...]) -> tuple[str, type[Section], Any]:
    """Follow an error's location; return its path, the section it is in and the type expected there."""
    holder, expected = section, None
    inside: type[Section] | None = section
    for part in loc:
        if isinstance(part, int):
            path = f"{path}[{part}]"
            expected = next((get_args(each)[0] for each in _choices(expected) if get_origin(each) is list), None)
        elif inside is not None:
            holder, path = inside, f"{path}.{part}"
            field = inside.model_fields.get(part)
            expected = None if field is None else field.annotation
        elif len(_choices(expected)) == 1:  # a key of a free mapping; with several choices pydantic names the choice
            path = f"{path}.{part}"
            expected = next((get_args(each)[1] for each in _choices(expected) if get_origin(each) is dict), None)
        inside = nested_section(expected)
    return path, holder, expected


def _explain(error: Any, spelling: str, expected: Any, owner: str) -> str:
    kind, value = error["type"], error["input"]
    if kind == "missing":
        return f"'{spelling}' is missing; {owner} needs it."
    if kind == "value_error":
        return f"{spelling}: {error['ctx']['error']}."
    if kind in _BOUNDS:
        key, bound = _BOUNDS[kind]
        return f"{spelling} is {shown(value)}; it must be {bound} {error['ctx'][key]:g}."
    if kind == "too_short":
        return f"{spelling} has too few entries; it needs at least {error['ctx']['min_length']}."
    words = _in_words(expected) if kind.endswith("_type") or kind == "literal_error" else None
    if words is None:
        message = error["msg"]
        return f"{spelling} is {shown(value)}; {message[:1].lower()}{message[1:]}."
    return f"{spelling} is {shown(value)}; it must be {words}{_advice(value, expected)}"


def _in_words(annotation: Any) -> str | None:
    """Return what a setting may be, or ``None`` for a type that has no plain words."""
    choices = _choices(annotation)
    words: list[str] = []
    for each in choices:
        if get_origin(each) is Literal:
            words += [f"'{value}'" if isinstance(value, str) else str(value) for value in get_args(each)]
        elif get_origin(each) is list:
            words.append("a list of text" if get_args(each) == (str,) else "a list")
        elif each in _WORDS:
            words.append(_WORDS[each])
        elif nested_section(each) is not None:
            words.append("a section with settings below it")
        else:
            return None
    if type(None) in _members(annotation):
        words.append("null")
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _advice(value: Any, annotation: Any) -> str:
    choices = _choices(annotation)
    if isinstance(value, float) and value.is_integer() and int in choices:
        return f": {int(value)}."
    if isinstance(value, str) and int in choices and value.strip().lstrip("+-").isdigit():
        return ", without quotes."
    if str in choices and isinstance(value, bool | int | float):
        return f"; put it in quotes: '{shown(value)}'."
    allowed = [value for each in choices if get_origin(each) is Literal for value in get_args(each)]
    if isinstance(value, str) and allowed:
        return f".{nearest(value, map(str, allowed))}"
    return "."


def _choices(annotation: Any) -> list[Any]:
    """Return the types an annotation allows, without ``None``."""
    return [each for each in _members(annotation) if each is not type(None)]


def _members(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return [member for each in get_args(annotation) for member in _members(each)]
    return [annotation]


def _whereabouts(key: str, path: str, root: type[Section]) -> str:
    """Return the sentence that says where a setting of this name belongs, or nothing."""
    part = PARTS.get(path.partition("[")[0].removesuffix(".sources").removesuffix(".backbone"))
    if part is not None:
        owners = part.owners_of(key)
        if owners:
            return f" '{key}' is a setting of {part.key_in_words} {_quoted(owners)}."
    if path and key in root.model_fields:
        return f" '{key}' stands at the top level; indent it less."
    homes = [home for home in _homes(key, root, "") if home != path]
    return f" '{key}' is a setting of {_quoted(homes)}." if homes else ""


def _nearest_below(key: str, path: str, root: type[Section]) -> str:
    """Return the words that name the nearest setting of the sections, for a key without one; or nothing."""
    if path:
        return ""
    homes = {name: home for home in root.model_fields for name in _keys(home, root)}
    found = get_close_matches(key, homes, n=1, cutoff=0.8)
    return f" Did you mean '{homes[found[0]]}.{found[0]}'?" if found else ""


def _keys(section: str, root: type[Section]) -> list[str]:
    below = nested_section(root.model_fields[section].annotation)
    return [] if below is None else list(below.model_fields)


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _homes(key: str, section: type[Section], path: str) -> list[str]:
    found = [path] if path and key in section.model_fields else []
    for name, field in section.model_fields.items():
        below = nested_section(field.annotation)
        if below is not None and below is not BenchmarkConfig:
            found += _homes(key, below, f"{path}.{name}" if path else name)
    return found
