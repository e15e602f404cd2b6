"""Trained models on AnnData objects, as scanpy users call things: ``smf.tl.embed(adata, "runs/lung")``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from scmodelforge._errors import ConfigError, require_whole

if TYPE_CHECKING:
    import anndata

    from scmodelforge.hub.bundle import Bundle

__all__ = ["annotate", "embed"]


def embed(
    adata: anndata.AnnData,
    model: str | Path | Bundle,
    *,
    key_added: str = "X_scmodelforge",
    batch_size: int = 64,
    layer: str | None = None,
    gene_id_column: str | None = None,
    copy: bool = False,
    trust_plugins: bool = False,
) -> anndata.AnnData | None:
    """Embed cells.

    Parameters
    ----------
    adata
        Cells with counts, in memory or backed; those in a backed file are read in chunks.
    model
        Address of a model (:func:`~scmodelforge.hub.load.load_model`), or one that was loaded.
    key_added
        Name in ``obsm`` of the embeddings, shape (n, H), float32; NaN for cells without a gene the model knows. In
        ``uns`` it names where they come from: model, version, genes known, preprocessing.
    batch_size
        Cells in a forward pass; changes no number.
    layer
        Where the counts are: ``X``, ``raw`` or a layer's name; ``None`` finds them.
    gene_id_column
        var column with gene ids; ``None`` is var_names, or a column that has some.
    copy
        Return a copy with the embeddings and leave ``adata`` as it is.
    trust_plugins
        Import the Python files the model folder names.

    Returns
    -------
    The copy, or ``None``.

    Raises
    ------
    ConfigError, DataError
        If there is no such model, or the cells cannot be embedded; ``adata`` is as it was then.
    """
    from scmodelforge.workflows.embedder import embeddings_of, ready_adata
    from scmodelforge.workflows.ready_cells import provenance

    require_whole("batch_size", batch_size, 1)
    _check_target(adata, copy=copy)
    bundle, origin = _loaded(model, trust_plugins=trust_plugins)
    cells = ready_adata(bundle, adata, layer=layer, gene_id_column=gene_id_column)
    rows = embeddings_of(bundle, cells, batch_size=batch_size)
    target = _copied(adata) if copy else adata
    target.obsm[key_added] = rows
    target.uns[key_added] = provenance(bundle, cells, origin)
    return target if copy else None


def annotate(
    adata: anndata.AnnData,
    model: str | Path | Bundle,
    *,
    key_added: str = "scmodelforge",
    min_confidence: float = 0.0,
    unknown: str = "unknown",
    batch_size: int = 64,
    layer: str | None = None,
    gene_id_column: str | None = None,
    copy: bool = False,
    trust_plugins: bool = False,
) -> anndata.AnnData | None:
    """Name the type of each cell by a model that learned cell types.

    Parameters
    ----------
    adata, model, batch_size, layer, gene_id_column, copy, trust_plugins
        As of :func:`embed`.
    key_added
        Names in ``obs``: ``{key_added}_label`` (categorical, all labels the model knows and ``unknown``) and
        ``{key_added}_confidence`` (probability of the label, float32); in ``uns`` where they come from.
    min_confidence
        Cells below are ``unknown``, as are those without a gene the model knows (their confidence is NaN).
    unknown
        What such cells are called.

    Raises
    ------
    ConfigError, DataError
        Also if the model has learned no cell types.
    """
    from scmodelforge._wording import in_words_of
    from scmodelforge.workflows.embedder import ready_adata
    from scmodelforge.workflows.predict import Naming, facts_of_labels, label_cells
    from scmodelforge.workflows.ready_cells import PYTHON

    require_whole("batch_size", batch_size, 1)
    naming = Naming(min_confidence, unknown)
    _check_target(adata, copy=copy)
    bundle, origin = _loaded(model, trust_plugins=trust_plugins)
    head = naming.head(bundle, origin)
    cells = ready_adata(bundle, adata, layer=layer, gene_id_column=gene_id_column)
    with in_words_of(PYTHON):
        found = label_cells(bundle, head, cells, naming, batch_size=batch_size)
    target = _copied(adata) if copy else adata
    for name, values in found.items():
        target.obs[f"{key_added}_{name}"] = values
    target.uns[f"{key_added}_label"] = facts_of_labels(bundle, cells, origin, naming)
    return target if copy else None


def _loaded(model: str | Path | Bundle, *, trust_plugins: bool) -> tuple[Bundle, str]:
    """Return a model and its address."""
    from scmodelforge.hub.bundle import Bundle
    from scmodelforge.hub.load import load_model

    if isinstance(model, Bundle):
        return model, ""
    if not isinstance(model, str | Path):
        msg = f"model is a {type(model).__name__}; give the address of a model, or what load_model returned."
        raise ConfigError(msg)
    return load_model(model, trust_plugins=trust_plugins), str(model)


def _check_target(adata: Any, *, copy: bool) -> None:
    """Refuse what cannot hold results, before any work is done for it."""
    import anndata

    if not isinstance(adata, anndata.AnnData):
        msg = f"adata is a {type(adata).__name__}; an AnnData object is needed, as anndata.read_h5ad returns."
        raise ConfigError(msg)
    if adata.isbacked and adata.is_view and not copy:
        msg = "adata is a part of a backed object and cannot hold results; copy=True returns an object in memory."
        raise ConfigError(msg)


def _copied(adata: anndata.AnnData) -> anndata.AnnData:
    """Return a copy in memory; a backed object stays open."""
    if not adata.isbacked:
        return adata.copy()
    found = adata.to_memory()
    adata.file.open()  # to_memory closes it
    return found
