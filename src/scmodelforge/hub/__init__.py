"""Models as folders: saving, loading, sharing."""

from __future__ import annotations

from typing import Any

__all__ = ["Bundle", "SharedModel", "extend_vocabulary", "load_bundle", "save_bundle"]


def __getattr__(name: str) -> Any:
    if name == "extend_vocabulary":
        from scmodelforge.hub.extend import extend_vocabulary

        return extend_vocabulary
    if name == "SharedModel":
        from scmodelforge.hub.share import SharedModel

        return SharedModel
    if name in __all__:
        from scmodelforge.hub import bundle

        return getattr(bundle, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
