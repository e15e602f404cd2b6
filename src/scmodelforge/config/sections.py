"""From plain values to sections: the right class for each, and every mistake noted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from scmodelforge._errors import ConfigError
from scmodelforge.config.backbone import has_backbone, with_backbone
from scmodelforge.config.faults import Faults, shown
from scmodelforge.config.messages import add_problems, add_unknown, is_mixture, nested_section
from scmodelforge.config.parts import HEAD, PARTS, Part
from scmodelforge.config.schema import BenchmarkConfig, EvalConfig, RunConfig, Section

__all__ = ["check_finite", "parse_section", "parse_sections", "validated"]


def parse_sections(raw: Mapping[str, Any], faults: Faults) -> dict[str, Section]:
    """Parse all sections of a settings file.

    Parameters
    ----------
    raw
        Settings with every fact in its home.
    faults
        Gets a line for each mistake.

    Returns
    -------
    The sections without a mistake, under their names.
    """
    for name in raw:
        if name not in RunConfig.model_fields:
            add_unknown(name, RunConfig, "", faults)
    fields = RunConfig.model_fields.items()
    names = [
        name
        for name, field in fields
        if nested_section(field.annotation) and (raw.get(name) is not None or field.default is not None)
    ]
    parsed = {name: parse_section(name, raw.get(name), faults) for name in names}
    return {name: section for name, section in parsed.items() if section is not None}


def parse_section(name: str, raw: Any, faults: Faults) -> Section | None:
    """Parse one section; only its own registry is asked.

    Parameters
    ----------
    name
        Name of the section: ``data``, ``tokenizer``, ...
    raw
        Its settings; ``None`` for a section that is not there or has nothing below it.
    faults
        Gets a line for each mistake.

    Returns
    -------
    The section, or ``None`` if there is a mistake in it.
    """
    if raw is not None and not isinstance(raw, dict):
        faults.add(name, f"{name} is {shown(raw)}; it must be a section with settings below it.")
        return None
    check_finite(raw, name, faults)
    if name in PARTS:
        return _parse_part(PARTS[name], raw or {}, name, faults)
    section: type[Section] | None = nested_section(RunConfig.model_fields[name].annotation)
    assert section is not None
    if section is EvalConfig:
        return _parse_eval(raw or {}, faults)
    return validated(section, raw or {}, name, f"section '{name}'", faults)


def _parse_part(part: Part, raw: dict[str, Any], path: str, faults: Faults) -> Section | None:
    name = part.name_in(raw)
    if not isinstance(name, str):
        # Also tells of the section's other mistakes, as far as the common settings go.
        return validated(part.base, _common(raw, part.base), path, path, faults)
    try:
        section = part.section_class(name)
    except ConfigError as problem:
        faults.add(f"{path}.{part.key}", f"{path}.{part.key}: {problem}")
        validated(part.base, _common(raw, part.base), path, path, faults)
        return None
    if is_mixture(section):
        return _parse_mixture(section, raw, path, faults)
    if has_backbone(section):
        return _parse_around(section, raw, path, faults)
    return validated(section, raw, path, f"{part.key_in_words} '{name}'", faults)


def _parse_mixture(section: type[Section], raw: dict[str, Any], path: str, faults: Faults) -> Section | None:
    """Parse data that come from several sources, each with the settings of its own class."""
    entries = raw.get("sources")
    others = {key: value for key, value in raw.items() if key != "sources"}
    mixture = validated(section, others, path, "source 'mixture'", faults)
    if not isinstance(entries, list) or not entries:
        faults.add(f"{path}.sources", f"{path}.sources is {shown(entries)}; it must be a list of sources.")
        return None
    parsed = [_parse_entry(entry, f"{path}.sources[{place}]", faults) for place, entry in enumerate(entries)]
    if mixture is None or None in parsed:
        return None
    setattr(mixture, "sources", parsed)  # noqa: B010 - a setting of this class only
    return mixture


def _parse_around(section: type[Section], raw: dict[str, Any], path: str, faults: Faults) -> Section | None:
    """Parse a model around another one, whose settings are those of its own class."""
    name = f"architecture '{PARTS['model'].name_in(raw)}'"
    try:
        own = with_backbone(raw)
    except ValueError as problem:
        faults.add(path, f"{path}: {problem}.")
        return None
    below = own.pop("backbone", {})
    if not isinstance(below, dict):
        faults.add(
            f"{path}.backbone", f"{path}.backbone is {shown(below)}; it must be a section with settings below it."
        )
        return None
    is_right = _parse_part(PARTS["model"], below, f"{path}.backbone", faults) is not None
    if isinstance(own.get("head"), dict) and _parse_part(HEAD, own["head"], f"{path}.head", faults) is None:
        is_right, own = False, {key: value for key, value in own.items() if key != "head"}
    # With a mistake below, only those of its own are asked of the section.
    around = validated(section, {**own, "backbone": below} if is_right else own, path, name, faults)
    return around if is_right else None


def _parse_entry(entry: Any, path: str, faults: Faults) -> Section | None:
    if not isinstance(entry, dict):
        faults.add(path, f"{path} is {shown(entry)}; it must be a section with source and its settings.")
        return None
    part = PARTS["data"]
    common = [key for key in entry if key in part.base.model_fields and key != part.key]
    for key in common:
        faults.add(f"{path}.{key}", f"{path}.{key} holds for all sources together; move it to data.{key}.")
    if entry.get(part.key) == "mixture":
        faults.add(f"{path}.{part.key}", f"{path}.{part.key} is 'mixture' inside a mixture; list its sources here.")
        return None
    parsed = _parse_part(part, {key: value for key, value in entry.items() if key not in common}, path, faults)
    return None if common else parsed


def _parse_eval(raw: dict[str, Any], faults: Faults) -> Section | None:
    entries = raw.get("benchmarks", [])
    if not isinstance(entries, list):
        return validated(EvalConfig, raw, "eval", "section 'eval'", faults)
    part = PARTS["eval.benchmarks"]
    parsed = [
        _parse_part(part, entry, f"eval.benchmarks[{position}]", faults)
        for position, entry in enumerate(entries)
        if entry is not None
    ]
    others = {key: value for key, value in raw.items() if key != "benchmarks"}
    section = validated(EvalConfig, others, "eval", "section 'eval'", faults)
    benchmarks = [each for each in parsed if isinstance(each, BenchmarkConfig)]
    if not isinstance(section, EvalConfig) or len(benchmarks) < len(entries):
        return None
    if "benchmarks" in raw:
        section.benchmarks = benchmarks
    return section


def validated(section: type[Section], raw: dict[str, Any], path: str, owner: str, faults: Faults) -> Section | None:
    """Return plain values as a section, or ``None`` if there is a mistake, of which ``faults`` gets a line."""
    try:
        # By way of JSON, so that a list can become a tuple and text a path, and still no text a number.
        return section.model_validate_json(json.dumps(_without_empty_sections(raw, section), default=str))
    except ValidationError as problem:
        add_problems(problem, section, path, owner, faults)
        return None


def _without_empty_sections(raw: dict[str, Any], section: type[Section]) -> dict[str, Any]:
    """Return the settings without sections that have a heading and nothing below it."""
    kept = {}
    for key, value in raw.items():
        field = section.model_fields.get(key)
        below: Any = None if field is None else field.annotation
        if not (isinstance(below, type) and issubclass(below, Section)):
            kept[key] = value
        elif value is not None:
            kept[key] = _without_empty_sections(value, below) if isinstance(value, dict) else value
    return kept


def _common(raw: dict[str, Any], base: type[Section]) -> dict[str, Any]:
    """Return the settings that do not depend on the part: it is not known which others there are."""
    return {key: value for key, value in raw.items() if key in base.model_fields}


def check_finite(value: Any, path: str, faults: Faults) -> None:
    """Add a line for each number that is not finite."""
    if isinstance(value, dict):
        for key, each in value.items():
            check_finite(each, f"{path}.{key}", faults)
    elif isinstance(value, list):
        for position, each in enumerate(value):
            check_finite(each, f"{path}[{position}]", faults)
    elif isinstance(value, float) and not math.isfinite(value):
        faults.add(path, f"{faults.spelling(path)} is {value}; it must be a finite number.")
