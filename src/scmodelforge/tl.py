"""Trained models on AnnData objects, as scanpy users call things: ``smf.tl.embed(adata, "runs/lung")``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scmodelforge._errors import ConfigError, require_whole

if TYPE_CHECKING:
    import anndata
    import pandas as pd

    from scmodelforge.hub.bundle import Bundle

__all__ = ["annotate", "embed", "perturb", "predict", "predict_perturbation"]


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
    _check_target(adata, key_added, copy=copy)
    bundle = _loaded(model, trust_plugins=trust_plugins)
    cells = ready_adata(bundle, adata, layer=layer, gene_id_column=gene_id_column)
    rows = embeddings_of(bundle, cells, batch_size=batch_size)
    target = _copied(adata) if copy else adata
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
    _check_target(adata, key_added, copy=copy)
    bundle = _loaded(model, trust_plugins=trust_plugins)
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
        As of :func:`annotate`, for labels and classes.

    Raises
    ------
    ConfigError, DataError
        Also if the model has no head.
    """
    from scmodelforge.workflows.predict import Naming, predictor_of

    require_whole("batch_size", batch_size, 1)
    naming = Naming(min_confidence, unknown)
    _check_target(adata, key_added, copy=copy)
    bundle = _loaded(model, trust_plugins=trust_plugins)
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
    target = _copied(adata) if copy else adata
    for name, values in found.items():
        getattr(target, predictor.table)[f"{key}_{name}"] = values
    target.uns[f"{key}_{predictor.key}"] = facts_of(bundle, cells, predictor)
    return target


def perturb(
    adata: anndata.AnnData,
    model: str | Path | Bundle,
    *,
    genes: str | Sequence[str],
    kind: str = "delete",
    combine: str = "each",
    cells: str | None = None,
    per: str | None = None,
    from_state: str | None = None,
    to_state: str | None = None,
    method: str = "exact",
    max_cells: int | None = None,
    random_genes: int = 10,
    seed: int = 0,
    key_added: str = "scmodelforge_perturb",
    batch_size: int = 64,
    layer: str | None = None,
    gene_id_column: str | None = None,
    trust_plugins: bool = False,
) -> pd.DataFrame:
    """Change genes of cells in silico, and tell how far the model's cell embeddings move.

    Parameters
    ----------
    adata, model, batch_size, layer, gene_id_column, trust_plugins
        As of :func:`embed`.
    genes
        Symbols or ids, or ``all``.
    kind
        ``delete``, ``overexpress`` (to the highest of the cell) or ``activate`` (up by a quarter of its genes).
    combine
        ``each`` changes every gene by itself, ``pairs`` also every two together, ``together`` all at once.
    cells
        Cells to perturb: ``column=value``, or an expression over obs columns.
    per
        obs column; effects are given for the cells of each of its values.
    from_state, to_state
        Cells to perturb and the goal, as ``cells``; without ``from_state`` all cells but the goal's are perturbed.
    method
        ``exact`` embeds each changed cell; ``gradient`` tells effects of all genes at once, to first order.
    max_cells
        Most cells that are drawn, of each value of ``per`` and of the goal; ``None`` takes all.
    random_genes
        Random genes, or sets of as many, in each cell that effects are compared with; 0 leaves the test out.
    seed
        Seed of cells and random genes that are drawn.
    key_added
        Name in ``uns`` of the table and of where it comes from.

    Returns
    -------
    A row for each perturbation, and value of ``per``, the greatest effect first.

    Raises
    ------
    ConfigError, DataError
        If something is asked for that there is not; ``adata`` is as it was then.
    """
    from scmodelforge._wording import in_words_of
    from scmodelforge.workflows.embedder import ready_adata
    from scmodelforge.workflows.perturb import perturb_cells
    from scmodelforge.workflows.perturbing import IN_PYTHON, Perturbing

    require_whole("batch_size", batch_size, 1)
    _check_target(adata, key_added, copy=False)
    with in_words_of(IN_PYTHON):
        asked = Perturbing(
            genes, kind, combine, cells, per, from_state, to_state, method, max_cells, random_genes, seed
        )
        bundle = _loaded(model, trust_plugins=trust_plugins)
        ready = ready_adata(bundle, adata, layer=layer, gene_id_column=gene_id_column)
        table, facts = perturb_cells(bundle, ready, asked, batch_size=batch_size)
    adata.uns[key_added] = {**facts, "table": table.copy()}
    return table


def predict_perturbation(
    adata: anndata.AnnData,
    model: str | Path | Bundle,
    *,
    conditions: Sequence[str] | None = None,
    means: bool = False,
    dose: float | None = None,
    max_cells: int = 200,
    batch_size: int = 64,
    layer: str | None = None,
    gene_id_column: str | None = None,
    trust_plugins: bool = False,
) -> anndata.AnnData:
    """Predict the control cells of some data after perturbations, by a model that learned perturbations.

    Parameters
    ----------
    adata, model, batch_size, layer, gene_id_column, trust_plugins
        As of :func:`embed`; ``adata`` has the obs columns that the model was trained with, and control cells.
    conditions
        Perturbations (``A``, ``A+B``); ``None`` is those that the model's run held out to be scored.
    means
        Give the mean of each perturbation in place of cells.
    dose
        Dose of all, for a model of doses; ``None`` is the mean of training.
    max_cells
        Most control cells that are predicted from.

    Returns
    -------
    A new object: control cells plus the predicted change, as logarithms, with condition and covariate in ``obs``.

    Raises
    ------
    ConfigError, DataError
        Also if the model has learned no perturbations, there are no control cells, or genes are not known.
    """
    from scmodelforge._wording import in_words_of
    from scmodelforge.data.sources.in_memory import AnnDataSource
    from scmodelforge.workflows.embedder import ready_adata
    from scmodelforge.workflows.predict_perturbations import Asked, predict_perturbations
    from scmodelforge.workflows.ready_cells import PYTHON

    require_whole("batch_size", batch_size, 1)
    require_whole("max_cells", max_cells, 1)
    _check_target(adata, "condition", copy=True)
    bundle = _loaded(model, trust_plugins=trust_plugins)
    cells = ready_adata(bundle, adata, layer=layer, gene_id_column=gene_id_column)
    stored = None if layer else AnnDataSource(adata, layer="X", gene_id_column=gene_id_column)
    asked = Asked(conditions, means, dose, max_cells)
    with in_words_of(PYTHON):
        return predict_perturbations(bundle, cells, stored, asked, batch_size=batch_size)


def _loaded(model: str | Path | Bundle, *, trust_plugins: bool) -> Bundle:
    """Return a model."""
    from scmodelforge.hub.bundle import Bundle
    from scmodelforge.hub.load import load_model

    if isinstance(model, Bundle):
        return model
    if not isinstance(model, str | Path):
        msg = f"model is a {type(model).__name__}; give the address of a model, or what load_model returned."
        raise ConfigError(msg)
    return load_model(model, trust_plugins=trust_plugins)


def _check_target(adata: Any, key_added: Any, *, copy: bool) -> None:
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


def _copied(adata: anndata.AnnData) -> anndata.AnnData:
    """Return a copy in memory; a backed object stays open."""
    if not adata.isbacked:
        return adata.copy()
    found = adata.to_memory()
    adata.file.open()  # to_memory closes it
    return found
