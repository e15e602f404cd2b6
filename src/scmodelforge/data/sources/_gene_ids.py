"""Where in a file its genes are named: var_names, or a column of var.

Without a model these are var_names, or if these are no gene ids, the first of :data:`ID_COLUMNS` that has some. For a
model they are whichever of these its vocabulary has most genes of (:func:`best_gene_ids`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.genes import strip_version
from scmodelforge.data.inspect import describe_gene_ids, gene_id_type
from scmodelforge.data.sources._frame import Frame, no_column

if TYPE_CHECKING:
    from scmodelforge.data.vocab import GeneVocab

__all__ = ["ID_COLUMNS", "best_gene_ids", "find_gene_ids"]

#: var columns that may have gene ids, best first.
ID_COLUMNS = (
    "feature_id", "ensembl_id", "ensembl_gene_id", "gene_ids", "gene_id", "ensembl",
    "feature_name", "gene_symbol", "gene_symbols", "gene_name", "gene_names", "symbol",
)  # fmt: skip


def find_gene_ids(var: Frame, column: str | None) -> tuple[np.ndarray, str]:
    """Return the gene ids, shape (G,), and a remark on where they are from.

    Parameters
    ----------
    var
        The table of genes.
    column
        The column to take; ``None`` takes var_names, or if these are no gene ids a column that has some.

    Raises
    ------
    DataError
        If there is no such column.
    """
    if column is not None:
        if column not in var.columns:
            hint = f" The index has {describe_gene_ids(var.index())}; to use it, leave data.gene_id_column out."
            raise DataError(no_column(var.label, column, var.columns, setting=" (data.gene_id_column)") + hint)
        return _column_texts(var, column), f"; gene ids from var column '{column}'"
    names = _var_names(var)
    if gene_id_type(names) != "unknown" or describe_gene_ids(names).startswith("Ensembl"):
        return names, ""
    for candidate in ID_COLUMNS:
        if candidate in var.columns:
            ids = _column_texts(var, candidate)
            if gene_id_type(ids) != "unknown":
                return ids, f"; gene ids from var column '{candidate}' (var_names are {describe_gene_ids(names)})"
    return names, ""


def best_gene_ids(var: Frame, vocab: GeneVocab) -> tuple[np.ndarray, str] | None:
    """Return the gene ids that a vocabulary has most genes of, shape (G,), and a remark on the choice.

    Of several that find as many genes those win that have more ids as the vocabulary writes them, version aside, then
    var_names, then columns in the order of :data:`ID_COLUMNS`. Columns that hold no texts or numbers are left out.

    Parameters
    ----------
    var
        The table of genes.
    vocab
        The vocabulary.

    Returns
    -------
    ``None`` if there are var_names only.
    """
    places = {"var_names": _var_names(var)}
    own = {strip_version(gene) for gene in vocab.genes}
    for column in ID_COLUMNS:
        if column in var.columns:
            try:
                places[f"var column '{column}'"] = _column_texts(var, column)
            except DataError:  # of a kind that has no texts: no ids, which nobody asked for
                continue
    if len(places) == 1:
        return None
    genes, as_written = {}, {}
    for place, ids in places.items():
        tokens = vocab.map(ids)
        genes[place] = len(np.unique(tokens[tokens >= 0]))
        as_written[place] = sum(strip_version(str(name)) in own for name in ids)
    best = max(places, key=lambda place: (genes[place], as_written[place]))  # of equal ones the first
    others = ", ".join(f"{place} {number:,}" for place, number in genes.items() if place != best)
    return places[best], f"; gene ids from {best} ({genes[best]:,} genes of the model, {others})"


def _var_names(var: Frame) -> np.ndarray:
    return np.array(var.index(), dtype=object)


def _column_texts(var: Frame, column: str) -> np.ndarray:
    codes, categories = var.codes(column)
    names = np.array([*categories, ""], dtype=object)  # code -1 takes the last: no id
    return np.asarray(names[codes])
