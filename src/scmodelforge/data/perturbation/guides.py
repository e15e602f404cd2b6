"""Guides of each cell from guide counts, through pertpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from scmodelforge._errors import ConfigError, DataError, nearest
from scmodelforge._optional import require
from scmodelforge.data.perturbation.columns import is_control

__all__ = ["CONTROL", "assign_guides"]

CONTROL = "control"
"""Value of ``obs["perturbation"]`` of cells that have control guides only."""

_FEATURE_TYPE = "CRISPR Guide Capture"  # Cell Ranger's name
_TARGET_COLUMNS = ("target_gene", "gene_target", "target_gene_name", "target_gene_id", "target")
_JOINED_BY = "\x1f"  # between the guides pertpy returns; no guide's name has it


def assign_guides(
    adata: Any,
    guides: Any = None,
    *,
    targets: Mapping[str, str] | Callable[[str], str] | str | None = None,
    method: Literal["threshold", "max", "mixture"] = "threshold",
    threshold: float = 5,
    layer: str | None = None,
    **mixture: Any,
) -> Any:
    """Say which guides each cell has.

    ``threshold`` assigns every guide with at least ``threshold`` counts, ``max`` the one with most of them if it has so
    many, ``mixture`` those that belong to the upper part of a Poisson-Gauss mixture fitted to the counts of each guide
    (pertpy's ``GuideAssignment``).

    Parameters
    ----------
    adata
        Cells, an AnnData object. It is not changed.
    guides
        Counts of guides: an AnnData object with the same cells by name (such as ``mdata["gdo"]``), the name of a data
        frame in ``obsm``, or ``None`` for the columns of ``adata`` whose ``var["feature_types"]`` is ``CRISPR Guide
        Capture``.
    targets
        What each guide acts on: a mapping, a function of its name, or a column of the guides' ``var``, by default
        ``target_gene`` or one of like name. Guides whose name or target is a control's act on nothing.
    method, threshold
        How guides are assigned.
    layer
        Layer of the guides that holds counts; ``None`` is ``X``.
    **mixture
        Settings of the mixture: ``num_warmup``, ``num_samples``, ``fraction_positive_expected``, ...

    Returns
    -------
    A copy with these columns in ``obs``: ``guide``, the guides joined by ``+``, missing if there is none;
    ``num_guides``; ``perturbation``, their distinct targets joined by ``+`` in alphabetical order, ``control`` for
    control guides alone, missing without a guide; ``is_control``.

    Raises
    ------
    DataError
        If there are no guides, their cells are others, their values are no counts, or their targets are unknown.
    ConfigError
        If ``method`` is unknown.
    """
    if method not in ("threshold", "max", "mixture"):
        msg = f"method is '{method}'; it must be threshold, max or mixture."
        raise ConfigError(msg)
    counts = _guide_counts(adata, guides, layer)
    target_of = _targets(counts, targets)
    is_assigned = _assigned(counts, method, threshold, mixture)
    names = np.array(counts.var_names, dtype=object)
    return _labelled(adata, [names[row] for row in is_assigned], target_of)


def _guide_counts(adata: Any, guides: Any, layer: str | None) -> Any:
    """Return the counts of guides as an AnnData object in the order of the cells, ``X`` in CSR."""
    import anndata as ad
    import pandas as pd
    import scipy.sparse as sp

    if guides is None:
        types = adata.var.get("feature_types")
        is_guide = np.zeros(adata.n_vars, dtype=bool) if types is None else (types == _FEATURE_TYPE).to_numpy()
        if not is_guide.any():
            msg = (
                f"The data have no guide counts: no feature has '{_FEATURE_TYPE}' in var['feature_types']; give the "
                "counts of guides as guides=."
            )
            raise DataError(msg)
        guides = adata[:, is_guide]
    elif isinstance(guides, str):
        if guides not in adata.obsm:
            msg = f"obsm has no '{guides}'.{nearest(guides, adata.obsm)} There are: {', '.join(adata.obsm) or 'none'}."
            raise DataError(msg)
        frame = adata.obsm[guides]
        if not hasattr(frame, "columns"):
            msg = f"obsm['{guides}'] is no data frame, so its guides have no names; give an AnnData object as guides=."
            raise DataError(msg)
        var = pd.DataFrame(index=frame.columns.astype(str))
        guides = ad.AnnData(frame.to_numpy(dtype=np.float64), obs=frame[[]], var=var)
    if not guides.var_names.is_unique:
        msg = f"Two guides have the name '{guides.var_names[guides.var_names.duplicated()][0]}'; name each differently."
        raise DataError(msg)
    missing = ~adata.obs_names.isin(guides.obs_names)
    if missing.any():
        msg = (
            f"{np.count_nonzero(missing):,} of {adata.n_obs:,} cells are not among the cells of the guides, "
            f"such as '{adata.obs_names[missing][0]}'; give guide counts of the same cells."
        )
        raise DataError(msg)
    guides = guides[adata.obs_names]
    values = sp.csr_matrix(guides.X if layer is None else guides.layers[layer], dtype=np.float64)
    values.eliminate_zeros()
    if (values.data < 0).any() or (values.data != np.rint(values.data)).any():
        msg = "The values of the guides are no counts; give raw counts, or name the layer that holds them in layer=."
        raise DataError(msg)
    return ad.AnnData(values, obs=guides.obs[[]], var=guides.var.copy())


def _targets(counts: Any, targets: Any) -> dict[str, str]:
    """Return what each guide acts on; nothing for controls."""
    names = [str(name) for name in counts.var_names]
    if targets is None:
        targets = next((column for column in _TARGET_COLUMNS if column in counts.var), None)
        if targets is None:
            msg = (
                f"The guides ({', '.join(names[:3])}, ...) have no column in var that says what they act on, such as "
                f"'{_TARGET_COLUMNS[0]}'; give targets=: a column, a mapping or a function of the guide's name."
            )
            raise DataError(msg)
    if isinstance(targets, str):
        if targets not in counts.var:
            msg = f"var of the guides has no column '{targets}' (targets=).{nearest(targets, counts.var.columns)}"
            raise DataError(msg)
        targets = {str(name): str(target) for name, target in counts.var[targets].dropna().items()}
    if callable(targets):
        targets = {name: str(targets(name)) for name in names}
    unknown = [name for name in names if name not in targets and not is_control(name)]
    if unknown:
        msg = f"targets= lacks {len(unknown):,} of {len(names):,} guides, such as '{unknown[0]}'; name their targets."
        raise DataError(msg)
    found = {name: "" if is_control(name) else str(targets[name]) for name in names}
    return {name: "" if is_control(target) else target for name, target in found.items()}


def _assigned(counts: Any, method: str, threshold: float, mixture: dict[str, Any]) -> np.ndarray:
    """Return which guides each cell has, shape (cells, guides), bool."""
    pertpy = require("pertpy", extra="pert", why="Assigning guides")
    assignment = pertpy.pp.GuideAssignment()
    if method == "threshold":
        assigned = assignment.assign_by_threshold(counts.X, assignment_threshold=threshold)
        return np.asarray(assigned.toarray() != 0)
    if method == "max":
        assignment.assign_to_max_guide(
            counts, assignment_threshold=threshold, obs_key="guide", no_grna_assigned_key=_JOINED_BY
        )
        found = counts.obs["guide"].to_numpy()
    else:
        found = assignment.assign_mixture_model(
            counts,
            no_grna_assigned_key=_JOINED_BY,
            max_assignments_per_cell=counts.n_vars,
            multiple_grna_assignment_string=_JOINED_BY,
            only_return_results=True,
            **mixture,
        )
    column = {name: number for number, name in enumerate(counts.var_names)}
    is_assigned = np.zeros(counts.shape, dtype=bool)
    for cell, names in enumerate(found):
        for name in filter(None, str(names).split(_JOINED_BY)):
            is_assigned[cell, column[name]] = True
    return is_assigned


def _labelled(adata: Any, guides_of_cells: list[np.ndarray], target_of: dict[str, str]) -> Any:
    """Return a copy of the cells with the columns about their guides."""
    import pandas as pd

    found = adata.copy()
    targets = [sorted({target_of[guide] for guide in guides} - {""}) for guides in guides_of_cells]
    perturbations = [
        "+".join(names) if names else CONTROL if len(guides) else None
        for names, guides in zip(targets, guides_of_cells, strict=True)
    ]
    found.obs["guide"] = pd.Categorical([("+".join(guides) if len(guides) else None) for guides in guides_of_cells])
    found.obs["num_guides"] = np.array([len(guides) for guides in guides_of_cells], dtype=np.int64)
    found.obs["perturbation"] = pd.Categorical(perturbations)
    found.obs["is_control"] = np.array([perturbation == CONTROL for perturbation in perturbations])
    return found
