"""Trained models on AnnData objects, as scanpy users call things: ``smf.tl.embed(adata, "runs/lung")``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
    raise NotImplementedError


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
    raise NotImplementedError
