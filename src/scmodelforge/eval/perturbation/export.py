"""Predictions and real cells in the layout that cell-eval and the Virtual Cell Challenge read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from scmodelforge._errors import DataError
from scmodelforge.eval.perturbation.cells import Expression
from scmodelforge.eval.perturbation.conditions import Group
from scmodelforge.eval.perturbation.inputs import PerturbationPredictions

__all__ = ["export_covariates", "export_for_cell_eval"]


def export_for_cell_eval(
    predictions: PerturbationPredictions,
    folder: Path | str,
    *,
    column: str = "target_gene",
    control: str = "non-targeting",
    covariate: str = "",
) -> tuple[Path, Path]:
    """Write ``pred.h5ad`` and ``real.h5ad``: the same genes and conditions, logged, each with control cells.

    Parameters
    ----------
    predictions
        What is written.
    folder
        Where; it is made. Files there are not replaced.
    column
        obs column of the condition.
    control
        Its value for controls.
    covariate
        Cell line to write; empty if there are none.

    Returns
    -------
    Paths of both files.

    Raises
    ------
    DataError
        If a file exists, or nothing is predicted for the covariate.
    """
    comparison = predictions.comparison
    groups = [group for group in comparison.groups if group.covariate == covariate]
    if not groups:
        known = sorted({group.covariate for group in comparison.groups})
        msg = f"nothing is predicted for the covariate '{covariate}'; there are: {', '.join(known) or 'none'}."
        raise DataError(msg)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "pred.h5ad", folder / "real.h5ad"
    for path in paths:
        if path.exists():
            msg = f"{path} exists; name another folder."
            raise DataError(msg)
    for path, cells in zip(paths, (comparison.predicted, comparison.real), strict=True):
        _as_adata(cells, groups, comparison.genes, column=column, control=control).write_h5ad(path)
    return paths


def export_covariates(predictions: PerturbationPredictions, folder: Path) -> list[str]:
    """Write the files of :func:`export_for_cell_eval`, those of each covariate into a folder of its name.

    Returns
    -------
    A line for each pair of files: the command that reads them.
    """
    lines = []
    for covariate in sorted({group.covariate for group in predictions.comparison.groups}):
        into = folder / re.sub(r"[^\w.+-]", "_", covariate) if covariate else folder
        pred, real = export_for_cell_eval(predictions, into, covariate=covariate)
        lines.append(f"next: cell-eval run -ap {pred} -ar {real}")
    return lines


def _as_adata(cells: Expression, groups: Sequence[Group], genes: Sequence[str], *, column: str, control: str) -> Any:
    import anndata as ad
    import pandas as pd

    everything = [*groups, groups[0].control]
    blocks = [sp.csr_matrix(cells.cells(group), dtype=np.float32) for group in everything]
    names = [
        control if group.perturbation == group.control.perturbation else group.perturbation for group in everything
    ]
    values = np.repeat(names, [block.shape[0] for block in blocks])
    obs = pd.DataFrame({column: pd.Categorical(values)}, index=[f"cell{i}" for i in range(len(values))])
    return ad.AnnData(sp.vstack(blocks, format="csr"), obs=obs, var=pd.DataFrame(index=list(genes)))
