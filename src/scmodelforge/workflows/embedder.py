"""A trained model for code that embeds AnnData objects in two steps: process the data, then get the embeddings.

These are the steps, and the names, of the models of Helical, so that code written for them takes ours.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.data.sources._examine import ID_COLUMNS
from scmodelforge.data.sources._frame import no_column
from scmodelforge.hub.bundle import Bundle, load_bundle
from scmodelforge.workflows.embed import ReadyCells, embedded, find_model_folder, ready_cells

if TYPE_CHECKING:
    import anndata
    import pandas as pd

__all__ = ["CellDataset", "CellEmbedder"]


class CellDataset:
    """Cells that one model can embed, kept in a temporary file until nothing refers to them.

    Parameters
    ----------
    cells
        The cells.
    model_id
        The model they were checked for.
    folder
        Temporary folder with their file; it goes with this object.
    """

    def __init__(self, cells: ReadyCells, model_id: str, folder: Path) -> None:
        self.cells, self.model_id = cells, model_id
        weakref.finalize(self, _discard, cells, folder)

    def __len__(self) -> int:
        return self.cells.report.num_cells


class CellEmbedder:
    """A trained model with ``process_data`` and ``get_embeddings``.

    Parameters
    ----------
    model
        Model folder, or run folder (its exported model).
    batch_size
        Cells in a forward pass; changes no embedding.
    trust_plugins
        Import the Python files the model folder names.

    Raises
    ------
    DataError
        If there is no model.
    """

    def __init__(self, model: str | Path, *, batch_size: int = 64, trust_plugins: bool = False) -> None:
        if batch_size < 1:
            msg = f"batch_size is {batch_size}; give the number of cells in a forward pass, 1 or more."
            raise ConfigError(msg)
        self._bundle: Bundle = load_bundle(find_model_folder(Path(model)), trust_plugins=trust_plugins)
        self._batch_size = batch_size

    def process_data(
        self, adata: anndata.AnnData, *, layer: str | None = None, gene_id_column: str | None = None
    ) -> CellDataset:
        """Check cells and align their genes with the model's; the cells themselves are left as they are.

        Parameters
        ----------
        adata
            Cells with counts.
        layer
            Where the counts are: ``X``, ``raw`` or a layer's name; ``None`` finds them.
        gene_id_column
            var column with gene ids; ``None`` is var_names, or a column that has some.

        Raises
        ------
        DataError
            If the cells have values that the model cannot take, none of its genes, or no such column.
        """
        folder = Path(tempfile.mkdtemp(prefix="scmodelforge-"))
        try:
            path = folder / "cells.h5ad"
            _lean(adata, gene_id_column).write_h5ad(path)
            cells = ready_cells(self._bundle, path, layer=layer, gene_id_column=gene_id_column)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return CellDataset(cells, self._bundle.model_id, folder)

    def get_embeddings(self, dataset: CellDataset) -> np.ndarray:
        """Return the embeddings of the cells, in their order.

        Parameters
        ----------
        dataset
            What :meth:`process_data` of the same model returned.

        Returns
        -------
        Shape (n, H), float32, the numbers that ``scmodelforge embed`` writes. Cells without any gene of the model's
        vocabulary get a row of NaN.

        Raises
        ------
        DataError
            If the dataset was processed for another model, or its model gives NaN.
        """
        if dataset.model_id != self._bundle.model_id:
            msg = (
                f"the dataset was processed for model {dataset.model_id}, and this is {self._bundle.model_id}; "
                "call process_data of this model."
            )
            raise DataError(msg)
        cells, rows = dataset.cells, None
        for positions, vectors in embedded(self._bundle, cells, cells.positions, batch_size=self._batch_size):
            if rows is None:
                rows = np.full((len(dataset), vectors.shape[1]), np.nan, dtype=np.float32)
            rows[positions] = vectors
        assert rows is not None  # the scan refuses data of which every cell is empty
        return rows


def _lean(adata: anndata.AnnData, gene_id_column: str | None) -> anndata.AnnData:
    """Return the cells with what an embedding may depend on, and nothing else."""
    import anndata as ad
    import pandas as pd

    tables = [adata.var] if adata.raw is None else [adata.var, adata.raw.var]
    columns = list(dict.fromkeys(str(name) for table in tables for name in table.columns))
    if gene_id_column is not None and gene_id_column not in columns:
        raise DataError(no_column("var", gene_id_column, columns, setting=" (gene_id_column)"))
    used = ID_COLUMNS if gene_id_column is None else (gene_id_column,)
    obs = pd.DataFrame(index=adata.obs_names)
    lean = ad.AnnData(X=adata.X, obs=obs, var=_genes(adata.var, used), layers=dict(adata.layers))
    if adata.raw is not None:
        lean.raw = ad.AnnData(X=adata.raw.X, obs=obs, var=_genes(adata.raw.var, used))
    return lean


def _genes(var: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the columns that gene ids can be read from; of those that are not numbers the texts, as a file has them.

    Other columns may hold what no file can, and change nothing.
    """
    import pandas as pd

    found: dict[str, Any] = {}
    for name in columns:
        if name in var.columns:
            values = var[name]
            texts = [None if pd.isna(each) else str(each) for each in values]
            found[name] = values.array if pd.api.types.is_numeric_dtype(values) else pd.Categorical(texts)
    return pd.DataFrame(found, index=var.index.rename(None))


def _discard(cells: ReadyCells, folder: Path) -> None:
    cells.source.close()
    shutil.rmtree(folder, ignore_errors=True)
