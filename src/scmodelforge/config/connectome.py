"""A settings file of a run on brain regions becomes a :class:`ConnectomeConfig`, or one error with all mistakes."""

from __future__ import annotations

import inspect
import types
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import Field, create_model

from scmodelforge._errors import ConfigError
from scmodelforge._registry import CONNECTOME_BASELINES, CONNECTOME_MODELS
from scmodelforge.config.connectome_sections import (
    ConnectomeConfig,
    ConnectomeFile,
    ConnectomeModelConfig,
    ConnectomeTrainingConfig,
)
from scmodelforge.config.faults import Faults, shown
from scmodelforge.config.files import read_overrides, read_settings, set_values, write_yaml
from scmodelforge.config.given import GivenSettings, path_of
from scmodelforge.config.messages import add_unknown
from scmodelforge.config.sections import check_finite, validated

__all__ = ["dump_connectome_config", "is_connectome_file", "load_connectome_config", "model_section"]

_BLOCK = "connectome"
_ELSEWHERE = {*ConnectomeTrainingConfig.model_fields, "seed", "num_workers"}
"""Arguments of models that are settings of training, or follow from those of the split."""


def load_connectome_config(path: Path | GivenSettings, overrides: Sequence[str] = ()) -> ConnectomeConfig:
    """Read a settings file.

    Parameters
    ----------
    path
        A YAML or TOML file with the section ``connectome``, or settings in the place of one.
    overrides
        Changes, ``section.setting=value``; sections are those below ``connectome``, which may be named as well.

    Returns
    -------
    The settings, with all defaults.

    Raises
    ------
    ConfigError
        If anything is wrong; its text has one line for each mistake.
    """
    faults = Faults(str(path_of(path)), root=ConnectomeFile)
    raw = dict(path.values) if isinstance(path, GivenSettings) else read_settings(Path(path), faults)
    whole = [each if each.startswith(f"{_BLOCK}.") else f"{_BLOCK}.{each}" for each in overrides]
    raw = set_values(raw, read_overrides(whole, faults), faults)
    for name in raw:
        if name != _BLOCK:
            add_unknown(name, ConnectomeFile, "", faults)
    config = _parsed(raw.get(_BLOCK), faults)
    faults.raise_if_any()
    assert config is not None
    return config


def is_connectome_file(path: Path) -> bool:
    """Tell whether a settings file is one of a run on brain regions.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    return _BLOCK in read_settings(path, Faults(str(path)))


def dump_connectome_config(config: ConnectomeConfig) -> str:
    """Return settings as YAML text from which :func:`load_connectome_config` makes equal ones."""
    return write_yaml(ConnectomeFile(connectome=config).to_dict())


@cache
def model_section(name: str) -> type[ConnectomeModelConfig]:
    """Return the settings of a model: the arguments of its class with their defaults, but for those of training.

    Raises
    ------
    ConfigError
        If there is no such model.
    """
    model: Any = CONNECTOME_MODELS.get(name)
    try:
        hints = get_type_hints(model.__init__)
    except (NameError, TypeError):  # of a model with annotations that cannot be looked up
        hints = {}
    fields: dict[str, Any] = {}
    # The first three are the object, its number of inputs and its data set.
    for each in list(inspect.signature(model.__init__).parameters.values())[3:]:
        if each.kind is each.VAR_KEYWORD or each.name in _ELSEWHERE:
            continue
        kind = str | None if each.name == "gene_embeddings" else _plain(hints.get(each.name, Any))
        is_needed = each.default is each.empty
        default = list(each.default) if isinstance(each.default, tuple) else each.default
        fields[each.name] = (kind, Field(...) if is_needed else Field(default))
    about = f"Settings of the model '{name}': the arguments of {model.__name__}."
    return create_model(f"{model.__name__}Config", __base__=ConnectomeModelConfig, __doc__=about, **fields)


def _parsed(raw: Any, faults: Faults) -> ConnectomeConfig | None:
    if raw is not None and not isinstance(raw, dict):
        faults.add(_BLOCK, f"{_BLOCK} is {shown(raw)}; it must be a section with settings below it.")
        return None
    check_finite(raw, _BLOCK, faults)
    others = {key: value for key, value in (raw or {}).items() if key != "model"}
    config = validated(ConnectomeConfig, others, _BLOCK, f"section '{_BLOCK}'", faults)
    model = _parsed_model((raw or {}).get("model"), f"{_BLOCK}.model", faults)
    if not isinstance(config, ConnectomeConfig) or model is None:
        return None
    for name in config.baselines or []:
        try:
            CONNECTOME_BASELINES.get(name)
        except ConfigError as problem:
            faults.add(f"{_BLOCK}.baselines", f"{_BLOCK}.baselines: {problem}")
    config.model = model
    return config


def _parsed_model(raw: Any, path: str, faults: Faults) -> ConnectomeModelConfig | None:
    if raw is not None and not isinstance(raw, dict):
        faults.add(path, f"{path} is {shown(raw)}; it must be a section with settings below it.")
        return None
    raw = raw or {}
    name = raw.get("name", ConnectomeModelConfig.model_fields["name"].default)
    if not isinstance(name, str):
        faults.add(f"{path}.name", f"{path}.name is {shown(name)}; it must be text.")
        return None
    try:
        section = model_section(name)
    except ConfigError as problem:
        faults.add(f"{path}.name", f"{path}.name: {problem}")
        return None
    found = validated(section, {"name": name, **raw}, path, f"model '{name}'", faults)
    return found if isinstance(found, ConnectomeModelConfig) else None


def _plain(annotation: Any) -> Any:
    """Return a type as a settings file can have it: lists in the place of sequences."""
    if get_origin(annotation) in (Union, types.UnionType):
        return Union[tuple(_plain(each) for each in get_args(annotation))]  # noqa: UP007 - of as many as there are
    if get_origin(annotation) is Sequence:
        return list[get_args(annotation)]  # type: ignore[misc]
    return annotation
