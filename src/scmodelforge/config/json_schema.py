"""The JSON Schema of a settings file, for editors: every section of every registered part, and the short spellings.

A file holds either the sections of a run on cells, or the section ``connectome``.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from pydantic.json_schema import models_json_schema

from scmodelforge._registry import CONNECTOME_MODELS
from scmodelforge.config.aliases import ALIASES, NUM_GPUS
from scmodelforge.config.backbone import has_backbone
from scmodelforge.config.connectome import model_section
from scmodelforge.config.connectome_sections import ConnectomeConfig, ConnectomeModelConfig
from scmodelforge.config.messages import is_mixture
from scmodelforge.config.parts import PARTS, Part
from scmodelforge.config.schema import EvalConfig, RunConfig, Section, TrainingConfig

__all__ = ["config_schema"]

_REF = "#/$defs/{model}"


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema of a settings file.

    A section that parts extend is one of several: for each registered part the settings of its own class. All
    registered parts are imported for this, also the models.
    """
    classes = {(kind, name): part.section_class(name) for kind, part in PARTS.items() for name in part.registry.names()}
    bases: list[type[Section]] = [RunConfig, TrainingConfig, EvalConfig, *(part.base for part in PARTS.values())]
    regions: dict[str, type[Section]] = {name: model_section(name) for name in CONNECTOME_MODELS.names()}
    bases += [ConnectomeConfig, *regions.values()]
    models = list(dict.fromkeys([*bases, *classes.values()]))
    names, generated = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    titles = {model: names[model, "validation"]["$ref"].rpartition("/")[2] for model in models}
    definitions = generated["$defs"]
    _add_spellings(definitions, titles)
    run = definitions.pop(titles[RunConfig])
    for kind, part in PARTS.items():
        chosen = {name: titles[section] for (of, name), section in classes.items() if of == kind}
        if kind == "eval.benchmarks":
            items = definitions[titles[EvalConfig]]["properties"]["benchmarks"]
            items["items"] = {"anyOf": _benchmark_forms(part, chosen, definitions)}
        else:
            if kind == "data":
                mixtures = {titles[each] for (of, _), each in classes.items() if of == kind and is_mixture(each)}
                _name_sources(part, chosen, mixtures, definitions)
            run["properties"][kind] = {"anyOf": [_choice(part, name, title) for name, title in chosen.items()]}
            around = {name for (of, name), section in classes.items() if of == kind and has_backbone(section)}
            inside = {name: title for name, title in chosen.items() if name not in around}
            for name in around:
                below = definitions[chosen[name]]["properties"]["backbone"]
                below.pop("$ref", None)
                below["anyOf"] = [_choice(part, each, title) for each, title in inside.items()]
    run["properties"]["connectome"] = {"$ref": _REF.format(model=titles[ConnectomeConfig])}
    part = Part(CONNECTOME_MODELS, "name", ConnectomeModelConfig)
    forms = [_choice(part, name, titles[section]) for name, section in regions.items()]
    definitions[titles[ConnectomeConfig]]["properties"]["model"] = {"anyOf": forms}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **run, "$defs": definitions}


def _choice(part: Part, name: str, title: str) -> dict[str, Any]:
    """Return the schema of the section if it names this part, or, for the default part, names none."""
    named: dict[str, Any] = {"properties": {part.key: {"const": name}}}
    if name != part.base.model_fields[part.key].default:
        named["required"] = [part.key]
    return {"allOf": [{"$ref": _REF.format(model=title)}, named]}


def _name_sources(part: Part, titles: dict[str, str], mixtures: set[str], definitions: dict[str, Any]) -> None:
    """Say that each entry of a mixture has its source's own settings, and not those of all sources together."""
    own = {name: title for name, title in titles.items() if title not in mixtures}
    for title in mixtures:
        forms = []
        for name, below in own.items():
            settings = deepcopy(definitions[below])
            for key in part.base.model_fields:
                settings["properties"].pop(key, None)
            settings["properties"][part.key] = {"const": name}
            required = [key for key in settings.get("required", []) if key in settings["properties"]]
            is_default = name == part.base.model_fields[part.key].default
            settings["required"] = required if is_default else [*required, part.key]
            forms.append(settings)
        sources = definitions[title]["properties"]["sources"]
        sources["items"] = {"anyOf": forms}
        definitions[title]["required"] = [*definitions[title].get("required", []), "sources"]


def _benchmark_forms(part: Part, titles: dict[str, str], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the three ways to write a benchmark: its name, ``name: {settings}``, and all settings with ``name``."""
    below = {}
    for name, title in titles.items():
        settings = deepcopy(definitions[title])
        settings["required"] = [key for key in settings.get("required", []) if key != part.key]
        below[name] = {"anyOf": [settings, {"type": "null"}]}
    return [
        {"enum": list(titles)},
        {"type": "object", "properties": below, "additionalProperties": False, "minProperties": 1, "maxProperties": 1},
        *(_choice(part, name, title) for name, title in titles.items()),
    ]


def _add_spellings(definitions: dict[str, Any], titles: dict[type[Section], str]) -> None:
    """Add the settings that may also be written outside their home."""
    bases: dict[str, type[Section]] = {"training": TrainingConfig, **{kind: part.base for kind, part in PARTS.items()}}
    for spelling, home in {**ALIASES, NUM_GPUS: "training.accelerator and training.devices"}.items():
        section, _, key = spelling.rpartition(".")
        for model, title in titles.items():
            if issubclass(model, bases[section]):
                definitions[title]["properties"].setdefault(key, {"description": f"The same as {home}."})
