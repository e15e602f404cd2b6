"""Predictions and real cells in the layout that cell-eval and the Virtual Cell Challenge read."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from scmodelforge._errors import DataError
from scmodelforge.eval.perturbation.cells import Expression
from scmodelforge.eval.perturbation.conditions import Group
from scmodelforge.eval.perturbation.inputs import PerturbationPredictions

__all__ = ["check_export", "export_covariates", "export_for_cell_eval"]

_BYTES_PER_NAME = 64  # of a text in an HDF5 file, and what there is beside it
_BYTES_AROUND = 64 * 1024  # of a file without cells and genes
_LONGEST_NAME = 255  # bytes, of a folder on any usual file system


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
        If a file exists or cannot be written, nothing is predicted for the covariate, or a condition that is scored has
        the controls' name.
    """
    comparison = predictions.comparison
    groups = [group for group in comparison.groups if group.covariate == covariate]
    if not groups:
        known = sorted({group.covariate for group in comparison.groups})
        msg = f"nothing is predicted for the covariate '{covariate}'; there are: {', '.join(known) or 'none'}."
        raise DataError(msg)
    _check_control(groups, control)
    folder = Path(folder)
    paths = folder / "pred.h5ad", folder / "real.h5ad"
    for path in paths:
        if path.exists():
            msg = f"{path} exists; name another folder."
            raise DataError(msg)
    written = [path.with_name(path.name + ".writing") for path in paths]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, cells in zip(written, (comparison.predicted, comparison.real), strict=True):
            adata = _as_adata(cells, groups, comparison.genes, column=column, control=control)
            _check_room(path, adata)
            adata.write_h5ad(path)
        for own, path in zip(written, paths, strict=True):
            own.replace(path)
    except OSError as problem:
        reason = problem.strerror or " ".join(str(problem).split())
        msg = f"{folder}: the files for cell-eval cannot be written ({reason}); make room, or name another folder."
        raise DataError(msg) from problem
    finally:
        for own in written:
            own.unlink(missing_ok=True)
    return paths


def check_export(predictions: PerturbationPredictions, folder: Path, *, control: str = "non-targeting") -> None:
    """Make sure that all that is scored can be written for cell-eval, before anything is.

    Raises
    ------
    DataError
        If the folder exists, two covariates would have one folder or one has a name that no folder in it can have, or a
        condition that is scored has the controls' name.
    """
    if folder.exists():
        msg = f"{folder} exists; name another folder."
        raise DataError(msg)
    groups = predictions.comparison.groups
    _check_control(groups, control)
    covariates: dict[str, str] = {}
    for covariate in sorted({group.covariate for group in groups}):
        name = _folder_name(covariate)
        if name in (".", "..") or len(name.encode()) > _LONGEST_NAME:
            msg = f"the covariate '{covariate}' cannot be the name of a folder of files for cell-eval; rename it."
            raise DataError(msg)
        other = covariates.setdefault(name.casefold(), covariate)  # which some file systems do not tell apart
        if other != covariate:
            msg = f"the covariates '{other}' and '{covariate}' would both be written to '{name}'; rename one of them."
            raise DataError(msg)


def export_covariates(predictions: PerturbationPredictions, folder: Path) -> list[str]:
    """Write the files of :func:`export_for_cell_eval`, those of each covariate into a folder of its name.

    All of them are written, or nothing stays.

    Returns
    -------
    A line for each pair of files: the command that reads them.

    Raises
    ------
    DataError
        As of :func:`check_export`.
    """
    check_export(predictions, folder)
    lines = []
    try:
        for covariate in sorted({group.covariate for group in predictions.comparison.groups}):
            pred, real = export_for_cell_eval(predictions, folder / _folder_name(covariate), covariate=covariate)
            lines.append(f"next: cell-eval run -ap {pred} -ar {real}")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return lines


def _folder_name(covariate: str) -> str:
    return re.sub(r"[^\w.+-]", "_", covariate)


def _check_control(groups: Sequence[Group], control: str) -> None:
    if any(group.perturbation == control for group in groups):
        msg = (
            f"the condition '{control}' is scored, and files for cell-eval call the controls so; leave it out of the "
            "predictions, or rename it in both files."
        )
        raise DataError(msg)


def _check_room(path: Path, adata: Any) -> None:
    """Take the room that a file needs and give it back: HDF5 does not survive a disk that is full while it writes.

    Raises
    ------
    OSError
        If there is no room: the disk or a quota is full, or a limit on sizes of files is below it.
    """
    if not hasattr(os, "posix_fallocate"):  # of macOS
        return
    names = [*map(str, adata.obs_names), *map(str, adata.var_names)]
    size = sum(part.nbytes for part in (adata.X.data, adata.X.indices, adata.X.indptr))
    size += sum(len(name.encode()) + _BYTES_PER_NAME for name in names) + _BYTES_AROUND
    with path.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as problem:
            if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise  # of others, a file system that cannot tell


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
