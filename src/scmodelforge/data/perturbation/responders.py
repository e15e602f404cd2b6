"""Which perturbed cells respond, by Mixscape (Papalexi et al. 2021, doi:10.1038/s41588-021-00778-2), through pertpy."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from scmodelforge._errors import DataError, nearest
from scmodelforge._optional import require
from scmodelforge.data.inspect import describe_values
from scmodelforge.data.perturbation.columns import find_perturbation_columns

__all__ = ["mixscape"]

_log = logging.getLogger(__name__)

_SAMPLED_CELLS = 2000
_TARGET_SUM = 10_000.0
_NUM_DIMS = 15  # principal components in which neighbours are near, as pertpy has it
_NP = "NP"
_PART = "compared within"  # obs column of the working copy


def mixscape(
    adata: Any,
    *,
    perturbation: str | None = None,
    control: str | None = None,
    layer: str | None = None,
    split_by: str | None = None,
    perturbation_type: str = "KO",
    n_neighbors: int | None = 20,
    min_de_genes: int = 5,
    seed: int = 0,
    **settings: Any,
) -> Any:
    """Tell perturbed cells that respond from those that look like controls.

    The perturbation signature of a cell is the mean of its nearest controls less the cell itself; a mixture fitted to
    the signatures of each perturbation's cells along their common direction says which of them respond. Counts are
    normalised to 10,000 a cell and logged for this; values that look logged are taken as they are. The signature is
    dense, and several copies of it are in memory: keep the variable genes alone where there are many cells.

    Parameters
    ----------
    adata
        Cells, an AnnData object. It is not changed.
    perturbation
        obs column with the perturbation of each cell, and
    control
        its value for controls; found by :func:`find_perturbation_columns` if not given. Cells without a value are left
        out, here and in ``split_by``.
    layer
        Layer with counts or logged values; ``None`` is ``X``.
    split_by
        obs column of replicates or cell types: each is compared with its own controls.
    perturbation_type
        What responding cells are called, after the perturbation: ``KO``, ``KD``, ``OE``, ...
    n_neighbors
        Controls that a cell is compared with; ``None`` for all, which takes no search. The search compiles its code
        first, for a minute or more, once a process.
    min_de_genes
        Genes that must differ between a perturbation's cells and controls for it to have an effect at all.
    seed
        Seed of neighbour search and mixtures.
    **settings
        Further settings of pertpy's ``Mixscape.mixscape``, such as ``logfc_threshold``.

    Returns
    -------
    A copy with the signature in ``layers["X_pert"]`` and these columns in ``obs``: ``mixscape_class``, the control, or
    the perturbation with ``KO`` or ``NP`` (not perturbed); ``mixscape_class_global``, the control, ``KO`` or ``NP``;
    ``mixscape_p_ko``, the probability of the former, 0 for controls; ``is_control``. Named after ``perturbation_type``,
    and missing for cells without a value.

    Raises
    ------
    DataError
        If columns or controls are missing, a part has fewer controls than ``n_neighbors``, or the values are neither
        counts nor logged.
    """
    perturbation, control = _columns(adata, perturbation, control)
    values = _logged(adata, layer)
    columns = [perturbation] if split_by is None else [perturbation, split_by]
    _check_split(adata.obs, split_by)
    is_named = adata.obs[columns].notna().all(axis=1).to_numpy()
    _check_controls(adata.obs[is_named], perturbation, control, split_by, n_neighbors or 1)
    pertpy = require("pertpy", extra="pert", why="Mixscape")
    work = _working_copy(adata, values, is_named, columns)
    tool = pertpy.tl.Mixscape()
    if n_neighbors is None:
        work.obs[_PART] = "all" if split_by is None else work.obs[split_by]
        tool.perturbation_signature(work, perturbation, control, ref_selection_mode="split_by", split_by=_PART)
    else:
        scanpy = require("scanpy", extra="pert", why="Mixscape")
        scanpy.pp.pca(work, n_comps=min(_NUM_DIMS, min(work.shape) - 1), random_state=seed)
        neighbours = {"use_rep": "X_pca", "n_dims": None, "n_neighbors": n_neighbors, "random_state": seed}
        tool.perturbation_signature(work, perturbation, control, split_by=split_by, **neighbours)
    tool.mixscape(
        work,
        perturbation,
        control,
        layer="X_pert",
        split_by=split_by,
        perturbation_type=perturbation_type,
        min_de_genes=min_de_genes,
        random_state=seed,
        **settings,
    )
    return _with_results(adata, work, is_named, perturbation, control, perturbation_type)


def _columns(adata: Any, perturbation: str | None, control: str | None) -> tuple[str, str]:
    """Return the column of the perturbations and its control."""
    if perturbation is None:
        found = find_perturbation_columns(adata.obs)
        if found is None:
            msg = f"No obs column names perturbations; set perturbation= to one of: {', '.join(adata.obs.columns)}."
            raise DataError(msg)
        perturbation = found.perturbation
    if perturbation not in adata.obs:
        msg = f"obs has no column '{perturbation}'.{nearest(perturbation, adata.obs.columns)}"
        raise DataError(msg)
    if control is None:
        found = find_perturbation_columns(adata.obs[[perturbation]].set_axis(["perturbation"], axis=1))
        control = None if found is None else found.control
    there = adata.obs[perturbation].dropna().astype(str).unique()
    if control is None or control not in there:
        what = "is recognised as a control" if control is None else f"is '{control}'"
        listed = ", ".join(sorted(there)[:10])
        msg = f"No value of obs column '{perturbation}' {what}; set control= to one that is there: {listed}."
        raise DataError(msg)
    return perturbation, control


def _logged(adata: Any, layer: str | None) -> Any:
    """Return the values, logged, as a CSR matrix."""
    import scipy.sparse as sp

    values = sp.csr_matrix(adata.X if layer is None else adata.layers[layer], dtype=np.float32)
    sample = values[:_SAMPLED_CELLS]
    seen = describe_values(sample.data, sample.indptr)
    if seen.kind == "log1p":
        return values
    if seen.kind != "counts":
        msg = (
            f"Mixscape needs counts or logged values, but these look {seen.kind} ({seen.evidence}); name the layer "
            "that holds counts in layer=."
        )
        raise DataError(msg)
    _log.info("counts are normalised to 10,000 a cell and logged for Mixscape")
    totals = np.asarray(values.sum(axis=1)).ravel()
    factors = np.divide(_TARGET_SUM, totals, out=np.zeros_like(totals), where=totals > 0)
    values = sp.csr_matrix(sp.diags(factors) @ values)
    values.data = np.log1p(values.data)
    return values


def _check_split(obs: Any, split_by: str | None) -> None:
    if split_by is not None and split_by not in obs:
        msg = f"obs has no column '{split_by}' (split_by=).{nearest(split_by, obs.columns)}"
        raise DataError(msg)


def _check_controls(obs: Any, perturbation: str, control: str, split_by: str | None, n_neighbors: int) -> None:
    parts = {"obs": obs}
    if split_by is not None:
        parts = {f"'{name}'": part for name, part in obs.groupby(split_by, observed=True)}
    for name, part in parts.items():
        there = int((part[perturbation].astype(str) == control).sum())
        if there < n_neighbors:
            msg = (
                f"{name} has {there:,} control cells ('{control}'), but each cell is compared with {n_neighbors}; "
                "lower n_neighbors, or leave out split_by."
            )
            raise DataError(msg)


def _working_copy(adata: Any, values: Any, is_named: np.ndarray, columns: list[str]) -> Any:
    """Return the cells that take part, with what Mixscape reads of them alone."""
    import anndata as ad

    obs = adata.obs.loc[is_named, columns].astype(str).astype("category")
    obs.index = [str(number) for number in np.flatnonzero(is_named)]  # cells are looked up by name: each once
    var = adata.var[[]].copy()
    var.index = [str(number) for number in range(adata.n_vars)]
    return ad.AnnData(values[np.flatnonzero(is_named)].toarray(), obs=obs, var=var)


def _with_results(
    adata: Any, work: Any, is_named: np.ndarray, perturbation: str, control: str, perturbation_type: str
) -> Any:
    """Return a copy of the cells with what was found of those that took part."""
    import pandas as pd

    found = adata.copy()
    rows = np.flatnonzero(is_named)
    signature = np.zeros(adata.shape, dtype=np.float32)
    signature[rows] = work.layers["X_pert"]
    found.layers["X_pert"] = signature
    names = work.obs[perturbation].to_numpy(dtype=object)
    is_ctrl = names == control
    responds = work.obs["mixscape_class"].to_numpy(dtype=object) == names + f" {perturbation_type}"
    states = np.where(is_ctrl, control, np.where(responds, perturbation_type, _NP)).astype(object)
    classes = np.where(is_ctrl, control, names + " " + states).astype(object)
    probability = work.obs[f"mixscape_class_p_{perturbation_type.lower()}"].to_numpy(dtype=np.float64)

    def spread(part: np.ndarray, fill: Any) -> np.ndarray:
        whole = np.full(adata.n_obs, fill, dtype=part.dtype)
        whole[rows] = part
        return whole

    found.obs["mixscape_class"] = pd.Categorical(spread(classes, None))
    found.obs["mixscape_class_global"] = pd.Categorical(spread(states, None))
    found.obs[f"mixscape_p_{perturbation_type.lower()}"] = spread(probability, np.nan)
    found.obs["is_control"] = spread(is_ctrl, False)
    return found
