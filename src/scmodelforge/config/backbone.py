"""Settings of a model inside another model's: ``model.backbone``.

A section that has such settings names the field ``backbone``. What the two have in common (:data:`SHARED`) has its home
below ``backbone``; it may be written above it as well, but not as another value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from scmodelforge.config.own import own_settings
from scmodelforge.config.parts import PARTS
from scmodelforge.config.schema import ModelConfig, Section

__all__ = ["SHARED", "has_backbone", "parsed_backbone", "token_reader", "with_backbone"]

#: Common settings of models that a backbone has for the whole. The vocabulary is that of both; which task is trained on
#: and how genes are hidden is not the backbone's affair.
SHARED = frozenset(ModelConfig.model_fields) - {"architecture", "vocab_size", "pretraining_task", "mask_ratio"}


def has_backbone(section: type[Section]) -> bool:
    """Tell whether these are settings of a model around another one."""
    return issubclass(section, ModelConfig) and "backbone" in section.model_fields


def token_reader(model: ModelConfig) -> ModelConfig:
    """Return the settings of what reads the tokens: those under ``backbone``, if a model has one."""
    found: ModelConfig = getattr(model, "backbone", model)
    return found


def with_backbone(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a model around another one with each fact in its home.

    Parameters
    ----------
    values
        Plain settings, or with those of the backbone as a section.

    Raises
    ------
    ValueError
        If a setting has two values, or the backbone is itself a model around another one.
    """
    own = dict(values)
    backbone = own.get("backbone", {})
    if isinstance(backbone, ModelConfig):
        names = {*backbone.model_fields_set, "architecture"} - {"mask_ratio"}
        backbone = {name: getattr(backbone, name) for name in names}
    if not isinstance(backbone, Mapping):
        return own
    below = dict(backbone)
    if below.get("architecture", "") == own.get("architecture"):
        msg = (
            f"backbone.architecture is '{own['architecture']}', which is no model to be fine-tuned but one around such "
            "a model; name the architecture inside"
        )
        raise ValueError(msg)
    if "mask_ratio" in below:
        msg = "backbone.mask_ratio is not read; set tokenizer.masking.mask_ratio"
        raise ValueError(msg)
    for name in sorted(SHARED & own.keys()):
        above = own.pop(name)
        if below.setdefault(name, above) != above:
            msg = f"{name} is {above!r} and backbone.{name} is {below[name]!r}, which are one setting; keep the latter"
            raise ValueError(msg)
    size = below.pop("vocab_size", None)
    if size is not None and own.setdefault("vocab_size", size) not in (None, size):
        msg = (
            f"vocab_size is {own['vocab_size']} and backbone.vocab_size is {size}, which are one; leave out the latter"
        )
        raise ValueError(msg)
    own["vocab_size"] = own.get("vocab_size") or size
    return {**own, "backbone": below}


def parsed_backbone(value: Any) -> Any:
    """Return settings of a backbone as a section of its own class.

    Raises
    ------
    ValueError
        If there is no such architecture or the settings do not fit it.
    """
    part = PARTS["model"]
    if isinstance(value, ModelConfig):
        return own_settings("model.backbone", value.architecture, value, part.section_class(value.architecture))
    if not isinstance(value, Mapping) or not isinstance(part.name_in(value), str):
        return value
    try:
        return part.section_class(part.name_in(value)).model_validate(dict(value))
    except ValidationError as problem:
        faults = "; ".join(f"model.backbone.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problem.errors())
        raise ValueError(faults) from None
