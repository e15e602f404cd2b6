"""Models as folders: saving, loading, sharing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: The module of each public name; nothing is imported before it is asked for.
_HOMES = {
    "Bundle": "bundle",
    "SharedModel": "share",
    "extend_vocabulary": "extend",
    "fine_tuned_from": "fine_tuned",
    "load_bundle": "bundle",
    "load_model": "load",
    "save_bundle": "bundle",
}

__all__ = ["Bundle", "SharedModel", "extend_vocabulary", "fine_tuned_from", "load_bundle", "load_model", "save_bundle"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
