"""Models as folders: saving, loading, sharing."""

from __future__ import annotations

from typing import Any

__all__ = ["Bundle", "load_bundle", "save_bundle"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from scmodelforge.hub import bundle

        return getattr(bundle, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
