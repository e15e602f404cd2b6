"""What a trained model tells of each cell or gene of an AnnData object."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scmodelforge._errors import ConfigError, require_whole
from scmodelforge.tl._objects import check_target, copied, loaded

if TYPE_CHECKING:
    import anndata

    from scmodelforge.hub.bundle import Bundle

__all__ = ["annotate", "embed", "predict"]


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
    check_target(adata, key_added, copy=copy)
    bundle = loaded(model, trust_plugins=trust_plugins)
    cells = ready_adata(bundle, adata, layer=layer, gene_id_column=gene_id_column)
    rows = embeddings_of(bundle, cells, batch_size=batch_size)
    target = copied(adata) if copy else adata
    target.obsm[key_added] = rows
    target.uns[key_added] = provenance(bundle, cells)
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
    from scmodelforge.workflows.predict import Naming, predictor_of

    require_whole("batch_size", batch_size, 1)
    naming = Naming(min_confidence, unknown)
    check_target(adata, key_added, copy=copy)
    bundle = loaded(model, trust_plugins=trust_plugins)
    predictor = predictor_of(bundle, naming)
    if predictor.key != "label":
        learned = predictor.key.replace("_", " ")
        msg = f"{bundle.origin or 'the model'} has learned {learned}, no cell types; call tl.predict."
        raise ConfigError(msg)
    target = _predicted(adata, bundle, predictor, key_added, batch_size, layer, gene_id_column, copy)
    return target if copy else None


def predict(
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
    """Write what a fine-tuned model predicts: labels or numbers of cells, classes of genes.

    Parameters
    ----------
    adata, model, batch_size, layer, gene_id_column, copy, trust_plugins
        As of :func:`embed`.
    key_added
        How names begin. Of labels see :func:`annotate`; numbers are ``obs`` columns named as those that they were
        learned from; classes of genes are in ``var``: ``{key_added}_gene_class`` and three columns beside it.
    min_confidence, unknown
        As of :func:`annotate`, for labels and classes; refused for numbers.

    Raises
    ------
    ConfigError, DataError
        Also if the model has no head.
    """
    from scmodelforge._wording import in_words_of
    from scmodelforge.workflows.predict import Naming, predictor_of
    from scmodelforge.workflows.ready_cells import PYTHON

    require_whole("batch_size", batch_size, 1)
    naming = Naming(min_confidence, unknown)
    check_target(adata, key_added, copy=copy)
    bundle = loaded(model, trust_plugins=trust_plugins)
    with in_words_of(PYTHON):
        predictor = predictor_of(bundle, naming)
    target = _predicted(adata, bundle, predictor, key_added, batch_size, layer, gene_id_column, copy)
    return target if copy else None


def _predicted(
    adata: anndata.AnnData,
    bundle: Bundle,
    predictor: Any,
    key: str,
    batch_size: int,
    layer: str | None,
    gene_id_column: str | None,
    copy: bool,
) -> anndata.AnnData:
    from scmodelforge._wording import in_words_of
    from scmodelforge.workflows.embedder import ready_adata
    from scmodelforge.workflows.predict import facts_of, predicted_columns, require_rows
    from scmodelforge.workflows.ready_cells import PYTHON

    cells = ready_adata(bundle, adata, layer=layer, gene_id_column=gene_id_column)
    with in_words_of(PYTHON), closing(cells.source):
        found = predicted_columns(bundle, predictor, cells, batch_size=batch_size)
        require_rows(len(getattr(adata, predictor.table)), found, f"adata.{predictor.table}")
    target = copied(adata) if copy else adata
    for name, values in found.items():
        getattr(target, predictor.table)[f"{key}_{name}"] = values
    target.uns[f"{key}_{predictor.key}"] = facts_of(bundle, cells, predictor)
    return target
