"""What tokenizers see of cells: entries (cell, token, value) of the expressed genes a vocabulary knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.measured import Measured
from scmodelforge.data.types import CellBlock, Panel

__all__ = ["Entries", "check_one_cell", "expressed_entries", "has_repeats", "measured", "measured_tokens", "one_cell"]


class Entries(NamedTuple):
    """The expressed known genes of some cells, those of a cell together, in no particular order among themselves.

    Attributes
    ----------
    cells
        Number of the cell in its block, shape (E,), int64, ascending.
    tokens
        Token of the gene, shape (E,), int32. A cell has a token once.
    values
        Expression, shape (E,), float64, above 0.
    """

    cells: np.ndarray
    tokens: np.ndarray
    values: np.ndarray


def expressed_entries(block: CellBlock, tokens_of_columns: np.ndarray, *, repeats: bool) -> Entries:
    """Return the positive values of a block in columns that have a token; several of one token are summed.

    Parameters
    ----------
    block
        The cells.
    tokens_of_columns
        Token of each column, shape (G,), -1 where it has none.
    repeats
        Whether two columns have the same token: :func:`has_repeats`.
    """
    tokens = tokens_of_columns[block.indices]
    is_kept = (tokens >= 0) & (block.data > 0)
    cells = np.repeat(np.arange(len(block)), np.diff(block.indptr))[is_kept]
    entries = Entries(cells, tokens[is_kept], block.data[is_kept].astype(np.float64))
    if repeats or not _is_ascending(block.indices, block.indptr):
        return _summed(entries)
    return entries


def has_repeats(tokens_of_columns: np.ndarray) -> bool:
    """Tell whether two columns have the same token."""
    known = tokens_of_columns[tokens_of_columns >= 0]
    return len(np.unique(known)) < len(known)


def measured_tokens(tokens_of_columns: np.ndarray) -> np.ndarray:
    """Return the tokens that columns have, ascending, each once."""
    return np.unique(tokens_of_columns[tokens_of_columns >= 0])


def measured(panel: np.ndarray, entries: Entries, is_kept: np.ndarray, num_cells: int) -> Measured:
    """Return what is known of the genes of a block of one file that are not among its tokens.

    Parameters
    ----------
    panel
        Tokens the file measures: :func:`measured_tokens`.
    entries
        All expressed genes.
    is_kept
        Which of them became tokens, shape (E,), bool.
    num_cells
        Cells of the block.
    """
    cut = ~is_kept
    numbers = np.bincount(entries.cells[cut], minlength=num_cells)
    offsets = np.concatenate([[0], np.cumsum(numbers)]).astype(np.int64)
    return Measured((panel,), np.zeros(num_cells, dtype=np.int64), offsets, entries.tokens[cut])


def one_cell(expression: Any, gene_ids: Iterable[str]) -> CellBlock:
    """Return one cell as a block.

    Parameters
    ----------
    expression
        Values of the genes: an array of shape (G,) or (1, G), or a sparse matrix of one row.
    gene_ids
        Identifiers of the genes, shape (G,).

    Raises
    ------
    DataError
        If the numbers of values and genes differ, or a value is negative, infinite or not a number.
    """
    dense = expression.toarray() if hasattr(expression, "toarray") else np.asarray(expression)
    ids = np.asarray(gene_ids, dtype=object)
    check_one_cell(dense.shape, ids)
    values = np.asarray(dense, dtype=np.float32).ravel()
    is_wrong = ~(np.isfinite(values) & (values >= 0))
    if is_wrong.any():
        column = int(np.argmax(is_wrong))
        msg = f"expression of gene '{ids[column]}' is {values[column]}; counts are needed, raw or normalised."
        raise DataError(msg)
    columns = np.flatnonzero(values)
    indptr = np.array([0, len(columns)], dtype=np.int64)
    return CellBlock(values[columns], columns, indptr, Panel(ids, "the given cell"), np.zeros(1, dtype=np.int64))


def check_one_cell(shape: tuple[int, ...], gene_ids: np.ndarray) -> None:
    """Raise a :class:`DataError` unless values of this shape are one cell with these genes."""
    if gene_ids.ndim != 1 or shape not in (gene_ids.shape, (1, *gene_ids.shape)):
        msg = f"expression has shape {shape} for {gene_ids.size:,} genes; give one cell, a value for each gene."
        raise DataError(msg)


def _summed(entries: Entries) -> Entries:
    # Sorted by value too: the order of the columns then cannot change a rounding of the sum.
    order = np.lexsort((entries.values, entries.tokens, entries.cells))
    cells, tokens, values = (array[order] for array in entries)
    is_first = np.ones(len(cells), dtype=bool)
    is_first[1:] = (np.diff(cells) != 0) | (np.diff(tokens) != 0)
    starts = np.flatnonzero(is_first)
    sums = np.add.reduceat(values, starts) if len(starts) else values
    return Entries(cells[starts], tokens[starts], sums)


def _is_ascending(indices: np.ndarray, indptr: np.ndarray) -> bool:
    """Tell whether the columns of each row ascend strictly: each occurs once then."""
    rises = np.empty(len(indices), dtype=bool)
    rises[1:] = indices[1:] > indices[:-1]
    starts = indptr[:-1]
    rises[starts[starts < len(indices)]] = True
    return bool(rises.all())
