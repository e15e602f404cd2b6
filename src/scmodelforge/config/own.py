"""Common settings turned into a part's own."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import Section

__all__ = ["own_settings"]


def own_settings(kind: str, name: str, config: Section, config_class: type[Section]) -> Any:
    """Return settings as the class of the part they are for, with the part's own settings at their defaults.

    So the name of a part may be changed after its section was made.

    Parameters
    ----------
    kind
        Section the settings belong to, ``model`` or ``tokenizer``.
    name
        Registered name of the part.
    config
        The settings, common ones or those of another part.
    config_class
        The part's own class.

    Raises
    ------
    ConfigError
        If another part's own setting was changed from its default, or a value does not fit.
    """
    if isinstance(config, config_class):
        return config
    values = {}
    for field, info in type(config).model_fields.items():
        value = getattr(config, field)
        is_changed = value != info.get_default(call_default_factory=True)
        if field in config_class.model_fields:
            if is_changed or field in config.model_fields_set:  # else the part's own default holds
                values[field] = value
        elif is_changed:
            msg = f"{kind} '{name}' has no setting '{kind}.{field}' (it is {value!r}); remove it."
            raise ConfigError(msg)
    try:
        return config_class.model_validate(values)
    except ValidationError as problem:
        faults = "; ".join(f"{kind}.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problem.errors())
        msg = f"the settings do not fit {kind} '{name}': {faults}."
        raise ConfigError(msg) from problem
