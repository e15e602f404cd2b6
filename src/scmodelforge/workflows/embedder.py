"""A trained model for code that embeds AnnData objects in two steps: process the data, then get the embeddings.

These are the steps, and the names, of the models of Helical, so that code written for them takes ours.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scmodelforge._errors import DataError, require_whole
from scmodelforge._wording import in_words_of
from scmodelforge.data.sources.in_memory import AnnDataSource
from scmodelforge.hub.bundle import Bundle
from scmodelforge.hub.load import load_model
from scmodelforge.workflows.ready_cells import PYTHON, ReadyCells, given, ready_cells

if TYPE_CHECKING:
    import anndata

__all__ = ["CellDataset", "CellEmbedder", "embeddings_of", "ready_adata"]


def ready_adata(bundle: Bundle, adata: anndata.AnnData, *, layer: str | None, gene_id_column: str | None) -> ReadyCells:
    """Check that a model can embed the cells of an AnnData object, which is left as it is.

    Raises
    ------
    DataError
        As of :func:`~scmodelforge.workflows.ready_cells.ready_cells`; it names arguments as a function has them.
    """
    with in_words_of(PYTHON):
        source = AnnDataSource(adata, layer=layer, gene_id_column=gene_id_column)
        with closing(source):  # reading opens it again
            return ready_cells(bundle, source, names=PYTHON)


def embeddings_of(bundle: Bundle, cells: ReadyCells, *, batch_size: int) -> np.ndarray:
    """Return the embeddings of all cells, shape (n, H), float32; NaN for those without a gene the model knows."""
    rows = None
    with in_words_of(PYTHON), closing(cells.source):
        for positions, vectors in given(bundle, cells, cells.positions, batch_size=batch_size):
            if rows is None:
                rows = np.full((cells.report.num_cells, vectors.shape[1]), np.nan, dtype=np.float32)
            rows[positions] = vectors
    assert rows is not None  # the scan refuses data of which every cell is empty
    return rows


@dataclass(frozen=True)
class CellDataset:
    """Cells that one model can embed; the object they are from must not change meanwhile.

    Attributes
    ----------
    cells
        The cells.
    model_id
        The model they were checked for.
    """

    cells: ReadyCells
    model_id: str

    def __len__(self) -> int:
        return self.cells.report.num_cells


class CellEmbedder:
    """A trained model with ``process_data`` and ``get_embeddings``.

    Parameters
    ----------
    model
        Address of a model, as of :func:`~scmodelforge.hub.load.load_model`.
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
        require_whole("batch_size", batch_size, 1)
        self._bundle: Bundle = load_model(model, trust_plugins=trust_plugins)
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
        cells = ready_adata(self._bundle, adata, layer=layer, gene_id_column=gene_id_column)
        return CellDataset(cells, self._bundle.model_id)

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
        return embeddings_of(self._bundle, dataset.cells, batch_size=self._batch_size)
