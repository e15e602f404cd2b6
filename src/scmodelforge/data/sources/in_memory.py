"""Cells of an AnnData object: in memory, a view of one, or backed by a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scmodelforge.data.sources._anndata import AnnDataFile
from scmodelforge.data.sources._stored_cells import StoredCells

if TYPE_CHECKING:
    import anndata

__all__ = ["AnnDataSource"]


class AnnDataSource(StoredCells):
    """Cells of an AnnData object, with the checks and the values that its file would give.

    A backed object is read from its file. A matrix stored by columns is turned into one of rows first, which takes its
    memory once more; in a file it is refused.

    Parameters
    ----------
    adata
        The object. It is not changed, and must not be while it is read.
    layer
        ``X``, ``raw`` or a layer's name; ``None`` finds the one that holds counts.
    gene_id_column
        var column with the gene ids; ``None`` is var_names, or if these are no gene ids a column that has some.
    name
        What messages call it.

    Raises
    ------
    DataError
        If it has no cells, no matrix of numbers, or not what the arguments name.
    """

    def __init__(
        self,
        adata: anndata.AnnData,
        *,
        layer: str | None = None,
        gene_id_column: str | None = None,
        name: str = "adata",
    ) -> None:
        super().__init__([AnnDataFile(adata, name)], layer=layer, gene_id_column=gene_id_column)
