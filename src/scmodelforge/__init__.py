"""scModelForge: the training layer for single-cell foundation models."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "tl"]


def __getattr__(name: str) -> Any:
    if name == "tl":
        from importlib import import_module

        return import_module("scmodelforge.tl")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
