"""Models and AnnData objects as users give them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from scmodelforge._errors import ConfigError

if TYPE_CHECKING:
    import anndata

    from scmodelforge.hub.bundle import Bundle

__all__ = ["check_target", "copied", "loaded"]


def loaded(model: str | Path | Bundle, *, trust_plugins: bool) -> Bundle:
    """Return a model."""
    from scmodelforge.hub.bundle import Bundle
    from scmodelforge.hub.load import load_model

    if isinstance(model, Bundle):
        return model
    if not isinstance(model, str | Path):
        msg = f"model is a {type(model).__name__}; give the address of a model, or what load_model returned."
        raise ConfigError(msg)
    return load_model(model, trust_plugins=trust_plugins)


def check_target(adata: Any, key_added: Any, *, copy: bool) -> None:
    """Refuse what cannot hold results, before any work is done for it."""
    import anndata

    if not isinstance(key_added, str) or not key_added or "/" in key_added:
        msg = f"key_added is {key_added!r}; a name is needed, without '/', which files cannot hold."
        raise ConfigError(msg)

    if not isinstance(adata, anndata.AnnData):
        msg = f"adata is a {type(adata).__name__}; an AnnData object is needed, as anndata.read_h5ad returns."
        raise ConfigError(msg)
    if adata.isbacked and adata.is_view and not copy:
        msg = "adata is a part of a backed object and cannot hold results; copy=True returns an object in memory."
        raise ConfigError(msg)


def copied(adata: anndata.AnnData) -> anndata.AnnData:
    """Return a copy in memory; a backed object stays open."""
    if not adata.isbacked:
        return adata.copy()
    found = adata.to_memory()
    adata.file.open()  # to_memory closes it
    return found
