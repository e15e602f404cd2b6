"""Expression as it is predicted: log1p of counts normalised to 10,000 a cell, or what a file has logged already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from scmodelforge._errors import DataError
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.types import RowRange
from scmodelforge.data.vocab import GeneVocab

__all__ = ["Expression", "Means", "condition_means", "open_expression"]

_TARGET_SUM = 10_000.0
_ROWS = 2048
#: Cells of common spread that a condition's own cells are joined by, for the variance of its mean.
_COMMON_CELLS = 1
#: Kinds of values that expression can be made of.
_USABLE = ("counts", "normalized", "log1p")


@dataclass(frozen=True)
class Expression:
    """Cells over the genes that are predicted.

    Attributes
    ----------
    source
        Where the values are.
    kinds
        What those of each file are.
    tokens
        Tokens of the genes, shape (G,): those of the vocabulary that every file has, in the order of the first one.
    genes
        Their names there.
    """

    source: CellSource
    kinds: tuple[str, ...]
    tokens: np.ndarray
    genes: tuple[str, ...]
    _columns: tuple[np.ndarray, ...]

    def describe(self) -> str:
        """Return what was read, for the record."""
        words = {"counts": "log1p of counts of 10,000 a cell", "normalized": "log1p of normalised values"}
        return "; ".join(dict.fromkeys(words.get(kind, "logged values as they are") for kind in self.kinds))

    def blocks(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, sp.csr_matrix]]:
        """Yield positions of wanted cells, ascending, and their expression, (n, G); nothing else is read.

        Parameters
        ----------
        wanted
            Which cells of the source, shape (N,), bool.
        """
        start = 0
        for number, size in enumerate(self.source.file_sizes):
            for first in range(0, size, _ROWS):
                rows = np.flatnonzero(wanted[start + first : start + min(first + _ROWS, size)])
                if len(rows):
                    block = self.source.read(RowRange(number, first, min(first + _ROWS, size)))
                    yield start + first + rows, self._expression(block, rows, number)
            start += size

    def matrix(self, positions: np.ndarray) -> sp.csr_matrix:
        """Return the expression of some cells, ascending positions, shape (n, G), float32."""
        wanted = np.zeros(sum(self.source.file_sizes), dtype=bool)
        wanted[positions] = True
        parts = [values for _, values in self.blocks(wanted)]
        return sp.vstack(parts, format="csr").astype(np.float32)

    def _expression(self, block: Any, rows: np.ndarray, file: int) -> sp.csr_matrix:
        shape = (len(block), len(block.panel.gene_ids))
        values = sp.csr_matrix((block.data.astype(np.float64), block.indices, block.indptr), shape=shape)[rows]
        if self.kinds[file] == "counts":
            totals = np.asarray(values.sum(axis=1)).ravel()
            factors = np.divide(_TARGET_SUM, totals, out=np.zeros_like(totals), where=totals > 0)
            values.data *= np.repeat(factors, np.diff(values.indptr))
        if self.kinds[file] != "log1p":
            np.log1p(values.data, out=values.data)
        return values[:, self._columns[file]]


@dataclass(frozen=True)
class Means:
    """Mean expression by condition.

    Attributes
    ----------
    means
        Shape (n, G), float64; zeros where there is no cell.
    noises
        Variance of each mean by the spread of its cells, as a sum over genes, shape (n,). The spread of few cells is
        drawn towards that within all conditions, which is all that is known of a single cell's.
    sizes
        Cells of each, shape (n,).
    """

    means: np.ndarray
    noises: np.ndarray
    sizes: np.ndarray

    def part(self, places: slice) -> Means:
        """Return those of some conditions."""
        return Means(self.means[places], self.noises[places], self.sizes[places])


def open_expression(source: CellSource, vocab: GeneVocab, *, stored: CellSource | None) -> Expression:
    """Return the expression of the cells of a source.

    Parameters
    ----------
    source
        The cells as the run reads them.
    vocab
        The genes that can be predicted.
    stored
        The same cells with the values of ``X``, if these may be others: logged or normalised ones are taken.

    Raises
    ------
    DataError
        If the values are of no use, or no gene of the vocabulary is in all files.
    """
    values = source
    if stored is not None:
        if set(_kinds(stored)) <= {"log1p", "normalized"}:
            values = stored
        else:
            stored.close()
    kinds = _kinds(values)
    for kind, panel in zip(kinds, values.panels, strict=True):
        if kind not in _USABLE:
            msg = (
                f"the values of {panel.name} look {kind}; expression needs counts, or logged values without negatives."
            )
            raise DataError(msg)
    maps = [vocab.map_panel(panel) for panel in values.panels]
    first = maps[0]
    shared = [
        place
        for place in np.unique(first, return_index=True)[1]
        if first[place] >= 0 and all((other == first[place]).any() for other in maps)
    ]
    places = np.sort(np.array(shared, dtype=np.int64))
    if not len(places):
        msg = "no gene of the model's vocabulary is measured in all files, so none can be predicted."
        raise DataError(msg)
    tokens = first[places].astype(np.int64)
    columns = tuple(np.array([int(np.argmax(other == token)) for token in tokens]) for other in maps)
    names = tuple(str(name) for name in values.panels[0].gene_ids[places])
    return Expression(values, kinds, tokens, names, columns)


def _kinds(source: Any) -> tuple[str, ...]:
    return tuple(
        source.kind(number).kind if hasattr(source, "kind") else "counts" for number in range(len(source.panels))
    )


def condition_means(expression: Expression, codes: np.ndarray, number: int) -> Means:
    """Average cells by condition.

    Parameters
    ----------
    expression
        The cells.
    codes
        Condition of each cell, below 0 for those that are not read, shape (N,).
    number
        How many conditions there are.
    """
    sums, squares = (np.zeros((number, len(expression.tokens))) for _ in range(2))
    sizes = np.bincount(codes[codes >= 0], minlength=number)
    for positions, values in expression.blocks(codes >= 0):
        there, own = np.unique(codes[positions], return_inverse=True)  # few of all conditions have cells in a block
        place = sp.csr_matrix((np.ones(len(own)), (own, np.arange(len(own)))), shape=(len(there), len(own)))
        sums[there] += (place @ values).toarray()
        squares[there] += (place @ values.multiply(values)).toarray()
    count = np.maximum(sizes, 1)
    means = sums / count[:, None]
    spread = np.maximum(squares.sum(axis=1) - np.square(means).sum(axis=1) * count, 0)  # squares about the mean
    common = spread.sum() / max((count - 1).sum(), 1)
    variances = (spread + _COMMON_CELLS * common) / (count - 1 + _COMMON_CELLS)
    return Means(means, variances / count, sizes)
