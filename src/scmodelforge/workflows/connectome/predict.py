"""The connectivity of all pairs of some regions, as a saved model predicts it, in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._wording import in_words_of
from scmodelforge.connectome.files import read_expression
from scmodelforge.connectome.metrics import connectivity_matrix
from scmodelforge.connectome.models import ConnectomeModel
from scmodelforge.connectome.models.predicting import predict_pairs
from scmodelforge.connectome.regions import Regions
from scmodelforge.workflows.connectome.folder import write_arrays
from scmodelforge.workflows.connectome.inputs import ModelInputs, quiet
from scmodelforge.workflows.copies import check_copy, num_rows, put_pairs, write_copy
from scmodelforge.workflows.outputs import whole_file

__all__ = ["OBSP_KEY", "predict_regions"]

OBSP_KEY = "predicted_connectivity"
_TABLES = {".csv": ",", ".tsv": "\t"}


def predict_regions(
    path: Path, out: Path, *, model: Path, coords: str | None = None, missing: str = "refuse", force: bool = False
) -> list[str]:
    """Predict the connectivity of all pairs of the regions of a file.

    Parameters
    ----------
    path
        File of expression, as :func:`~scmodelforge.connectome.read_expression` reads it; it need not have connectivity.
    out
        What is written: ``.npz`` with ``predicted`` (R, R), ``regions`` and ``coords``; ``.csv`` or ``.tsv`` with names
        on both sides; or ``.h5ad``, a copy of the file with ``obsp["predicted_connectivity"]``. The diagonal is NaN.
    model
        Run folder, or the folder of a saved model.
    coords, missing
        As of :func:`~scmodelforge.connectome.read_expression`.
    force
        Replace ``out`` if it is there.

    Returns
    -------
    Closing lines for the user.

    Raises
    ------
    ConfigError, DataError
        For everything a user can get wrong, before anything is written.
    """
    _check_out(path, out, force=force)
    folder = model / "model" if not (model / "model.json").is_file() and (model / "model").is_dir() else model
    made = ConnectomeModel.load(folder)
    inputs = ModelInputs.load(folder) or ModelInputs(list(made.valid_genes or []))
    with in_words_of({"missing='drop'": "--missing drop", "coords='FILE.csv'": "--coords FILE.csv"}):
        table = read_expression(path, coords=coords, missing=missing)
    with quiet():
        data = inputs.apply(table.pairs(), str(path))
    made.take_genes(data)
    items = np.arange(len(data))
    matrix = connectivity_matrix(data, items, predict_pairs(made, data, items))
    with whole_file(out):
        _write(path, out, table, matrix)
    return [
        f"{data.num_regions} regions, {data.num_genes:,} genes of the model '{made.name}'",
        f"predicted connectivity: {out} ({len(data):,} ordered pairs)",
    ]


def _check_out(path: Path, out: Path, *, force: bool) -> None:
    if out.suffix not in (".npz", ".h5ad", *_TABLES):
        msg = f"{out} is none of .npz, .csv, .tsv and .h5ad; name one of these."
        raise ConfigError(msg)
    if out.suffix == ".h5ad" and path.suffix != ".h5ad":
        msg = f"{out} would be a copy of {path}, which is no .h5ad file; write .npz or .csv."
        raise ConfigError(msg)
    check_copy(path, out, force=force)


def _write(path: Path, out: Path, table: Regions, matrix: np.ndarray) -> None:
    names = [str(name) for name in table.regions]
    if out.suffix == ".npz":
        coords = {} if table.coords is None else {"coords": table.coords}
        write_arrays(out, {"predicted": matrix.astype(np.float32), "regions": np.asarray(names), **coords})
    elif out.suffix in _TABLES:
        temporary = out.with_name(out.name + ".writing")
        pd.DataFrame(matrix.astype(np.float32), names, names).to_csv(temporary, sep=_TABLES[out.suffix])
        temporary.replace(out)
    else:
        rows = np.asarray(list(table.valid2true_mapping.values()))  # of the file; regions may have been dropped
        write_copy(path, out, lambda file: put_pairs(file, OBSP_KEY, _spread(matrix, rows, num_rows(file, "obs"))))


def _spread(matrix: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    """Return a matrix of some regions as one of all, NaN for the others."""
    if size < len(matrix):
        msg = f"the file has {size} regions and {len(matrix)} were predicted; it was changed meanwhile."
        raise DataError(msg)
    whole = np.full((size, size), np.nan, dtype=np.float32)
    whole[np.ix_(rows, rows)] = matrix
    return whole
