"""What a trained model tells of genes that are changed, in silico or in a dish."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scmodelforge._errors import require_whole
from scmodelforge.tl._objects import check_target, loaded

if TYPE_CHECKING:
    import anndata
    import pandas as pd

    from scmodelforge.hub.bundle import Bundle

__all__ = ["perturb", "predict_perturbation"]


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
        As of :func:`~scmodelforge.tl.embed`.
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
    check_target(adata, key_added, copy=False)
    with in_words_of(IN_PYTHON):
        asked = Perturbing(
            genes, kind, combine, cells, per, from_state, to_state, method, max_cells, random_genes, seed
        )
        bundle = loaded(model, trust_plugins=trust_plugins)
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
        As of :func:`~scmodelforge.tl.embed`; ``adata`` has control cells, and the obs columns that the model was
        trained with.
    conditions
        Perturbations (``A``, ``A+B``); ``None`` is those that the model's run held out to be scored.
    means
        Give the mean of each perturbation in place of cells.
    dose
        Dose of all, for a model of doses; ``None`` is the mean over the doses of the perturbation's cells in the data
        it was trained with, and the mean of training for others.
    max_cells
        Most control cells that are predicted from; their mean is set to that of all.

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
    check_target(adata, "condition", copy=True)
    bundle = loaded(model, trust_plugins=trust_plugins)
    cells = ready_adata(bundle, adata, layer=layer, gene_id_column=gene_id_column)
    stored = None if layer else AnnDataSource(adata, layer="X", gene_id_column=gene_id_column)
    asked = Asked(conditions, means, dose, max_cells)
    with in_words_of(PYTHON):
        return predict_perturbations(bundle, cells, stored, asked, batch_size=batch_size)
