"""A settings file becomes a :class:`RunConfig`, or one error with all that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scmodelforge._errors import ConfigError
from scmodelforge._registry import MODELS
from scmodelforge.config.aliases import drop_other_spellings, move_to_homes
from scmodelforge.config.backbone import token_reader
from scmodelforge.config.checks import agree_on_bins, check_together, warn_of_unused
from scmodelforge.config.faults import Faults, shown
from scmodelforge.config.files import read_overrides, read_settings, set_values, write_yaml
from scmodelforge.config.given import GivenSettings, path_of
from scmodelforge.config.json_schema import config_schema
from scmodelforge.config.plugins import load_plugins
from scmodelforge.config.schema import ModelConfig, RunConfig
from scmodelforge.config.sections import parse_sections
from scmodelforge.config.tokenizer_checks import agree_on_mask_value

__all__ = [
    "config_schema",
    "drop_unread",
    "dump_config",
    "load_config",
    "load_plugins",
    "parse_config",
    "parse_without_model",
]


def load_config(path: str | Path | GivenSettings, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a settings file.

    Plugins are imported first. Other spellings of a setting are moved to its home, each section is parsed into the
    class of the part it names, and the sections are checked against each other.

    Parameters
    ----------
    path
        A YAML or TOML file, or settings in the place of one.
    overrides
        Changes, ``section.setting=value`` with the value in YAML. They replace what the file says, in any spelling.

    Returns
    -------
    The settings, with all defaults.

    Raises
    ------
    ConfigError
        If anything is wrong; its text has one line for each mistake.
    """
    faults = Faults(str(path_of(path)))
    raw = dict(path.values) if isinstance(path, GivenSettings) else read_settings(Path(path), faults)
    values = read_overrides(overrides, faults)
    raw = set_values(drop_other_spellings(raw, values), values, faults)
    return _parse(raw, faults)


def parse_config(raw: Mapping[str, Any], *, origin: str) -> RunConfig:
    """Make settings of plain values, as :func:`load_config` does of a file.

    Parameters
    ----------
    raw
        Sections with their settings.
    origin
        What messages begin with: the file the values came from. Plugins are looked for beside it.

    Raises
    ------
    ConfigError
        If anything is wrong; its text has one line for each mistake.
    """
    return _parse(dict(raw), Faults(origin))


def parse_without_model(raw: Mapping[str, Any], *, origin: str) -> RunConfig:
    """Make settings of the sections ``data`` and ``tokenizer`` alone, which no model need fit.

    Parameters
    ----------
    raw, origin
        As of :func:`parse_config`.

    Raises
    ------
    ConfigError
        If anything is wrong; its text has one line for each mistake.
    """
    faults = Faults(origin)
    sections = parse_sections(move_to_homes(dict(raw), faults), faults)
    sections = {name: section for name, section in sections.items() if name in ("data", "tokenizer")}
    check_together(sections, faults)
    faults.raise_if_any()
    return RunConfig(**sections)  # type: ignore[arg-type]


def dump_config(config: RunConfig) -> str:
    """Return settings as YAML text from which :func:`load_config` makes equal ones.

    Left out is what says nothing: copies of the tokenizer's settings in the model's section (mask ratio, number of
    bins), and settings at their default that the architecture does not read.
    """
    values = config.to_dict()
    model = values["model"]
    del model["mask_ratio"]
    for section in (model, model.get("backbone", {})):
        if "n_bins" in values["tokenizer"]:
            section.pop("n_bins", None)
    drop_unread(model, config.model)
    return write_yaml(values)


def drop_unread(values: dict[str, Any], model: ModelConfig) -> None:
    """Take out of the plain values of a model's section, in place, defaults that its architecture does not read."""
    reader = token_reader(model)
    for section in (values, values.get("backbone", {})):
        for name in getattr(MODELS.get(reader.architecture), "unused_settings", frozenset()):
            field = type(reader).model_fields.get(name)
            if field is not None and name in section and section[name] == field.get_default(call_default_factory=True):
                del section[name]


def _parse(raw: dict[str, Any], faults: Faults) -> RunConfig:
    if "connectome" in raw:
        text = "'connectome' is the section of a run on brain regions; give the file to scmodelforge connectome train."
        faults.add("connectome", text)
        faults.raise_if_any()
    plugins = _import_plugins(raw.pop("plugins", None), faults)
    raw = move_to_homes(raw, faults)
    sections = parse_sections(raw, faults)
    # Without a section of their own these are the base model's and the task's, which are not known yet.
    absent = {name for name in ("tokenizer", "model") if "finetune" in raw and name not in raw}
    later = absent | ({"eval"} if "finetune" in raw and "benchmarks" not in (raw.get("eval") or {}) else set())
    known = {name: section for name, section in sections.items() if name not in later}
    agree_on_bins(known, faults)
    agree_on_mask_value(known)
    check_together(known, faults)
    faults.raise_if_any()
    config = RunConfig(plugins=plugins, **sections)  # type: ignore[arg-type]
    config.model.mask_ratio = config.tokenizer.masking.mask_ratio
    if not absent:
        warn_of_unused(config, faults.origin)
    return config


def _import_plugins(names: Any, faults: Faults) -> list[str]:
    """Import the plugins. Without them nothing after can be judged, so a failure stops here."""
    if names is None:
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        faults.add("plugins", f"plugins is {shown(names)}; it must be a list of Python files or module names.")
        return []
    for name in names:
        try:
            load_plugins([name], Path(faults.origin).parent)
        except ConfigError as problem:
            faults.add("plugins", str(problem))
            faults.raise_if_any()
    return names
