"""Expression of cells by condition: read from a matrix in blocks, summed without being made dense."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

import numpy as np
import scipy.sparse as sp

from scmodelforge.eval.perturbation.conditions import Group
from scmodelforge.eval.perturbation.scales import Scale, Seen

__all__ = [
    "Block",
    "ConditionCells",
    "Expression",
    "dense",
    "dense_blocks",
    "moments",
    "remembered",
    "remembered_of",
    "stable_rows",
]

Block = Any
"""Cells, shape (n, G): a sparse CSR matrix, which has no types, or an array."""

_TARGET_SUM = 10_000.0  # what PerturBench normalises to
_DENSE_VALUES = 2**22  # of a dense block

T = TypeVar("T")


class Expression(Protocol):
    """Log-normalised expression of groups of cells over the same genes."""

    @property
    def memo(self) -> dict[Hashable, Any]:
        """What was computed of these cells, so that it is computed once; see :func:`remembered`."""
        ...

    def home(self, group: Group) -> Expression:
        """Return whose cells a group's are: others where these only borrow them, such as a baseline its controls."""
        ...

    def size(self, group: Group) -> int:
        """Return the number of cells."""
        ...

    def mean(self, group: Group) -> np.ndarray:
        """Return the mean of the group's cells, shape (G,), float64."""
        ...

    def cells(self, group: Group) -> Block:
        """Return the cells, shape (n, G), sparse or dense."""
        ...


@dataclass(frozen=True)
class ConditionCells:
    """Cells of one file by group.

    Attributes
    ----------
    matrix
        Expression over all genes of the file, shape (N, F), sparse or dense.
    rows
        The cells of each group, in an order that does not depend on that of the file.
    columns
        The genes, as columns of the matrix, shape (G,).
    scale
        What the values are. Counts are normalised over these genes, whatever others the file has.
    origin
        What the file is, for messages.
    memo
        As of :class:`Expression`.
    seen
        What the values are like, of the groups whose mean was taken.
    """

    matrix: Any
    rows: Mapping[Group, np.ndarray]
    columns: np.ndarray
    scale: Scale
    origin: str
    memo: dict[Hashable, Any] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)

    def home(self, group: Group) -> ConditionCells:
        """Return these."""
        return self

    def size(self, group: Group) -> int:
        """Return the number of cells."""
        return len(self.rows[group])

    def mean(self, group: Group) -> np.ndarray:
        """Return the mean of the group's cells, shape (G,), float64.

        Raises
        ------
        DataError
            If a value is not a number or not on the declared scale.
        """
        return remembered(self, ("mean", group), lambda: self._mean(group))

    def cells(self, group: Group) -> Block:
        """Return the cells, shape (n, G), sparse or dense as they are stored, on the scale log1p."""
        return self._logged(self._stored(self.rows[group]))

    def chosen(self, rows: Mapping[Group, np.ndarray]) -> ConditionCells:
        """Return other cells of the same file; a cell may be there twice."""
        return replace(self, rows=dict(rows), memo={})

    def _mean(self, group: Group) -> np.ndarray:
        rows = self.rows[group]
        step = max(1, _DENSE_VALUES // self.matrix.shape[1])
        total, as_stored = np.zeros(len(self.columns)), np.zeros(len(self.columns))
        for start in range(0, len(rows), step):
            block = self._stored(rows[start : start + step])
            self.seen.add(block, self.scale, f"the {self.origin} of '{group.label}' have")
            as_stored += _gene_sums(block)
            total += _gene_sums(self._logged(block))
        self.seen.largest_mean = max(self.seen.largest_mean, as_stored.max() / len(rows))
        return total / len(rows)

    def _stored(self, rows: np.ndarray) -> Block:
        return self.matrix[rows][:, self.columns]

    def _logged(self, block: Block) -> Block:
        if self.scale == "log1p":
            return block if sp.issparse(block) else np.asarray(block)
        totals = np.asarray(block.sum(axis=1, dtype=np.float64)).ravel()
        factors = np.divide(_TARGET_SUM, totals, out=np.zeros_like(totals), where=totals > 0)
        if not sp.issparse(block):
            return np.log1p(np.asarray(block) * factors[:, None])
        block = sp.csr_matrix(block, dtype=np.float64)
        block.data = np.log1p(block.data * np.repeat(factors, np.diff(block.indptr)))
        return block


def remembered(cells: Expression, key: Hashable, compute: Callable[[], T]) -> T:
    """Return what was computed of these cells under a key before, or compute it."""
    if key not in cells.memo:
        cells.memo[key] = compute()
    found: T = cells.memo[key]
    return found


def remembered_of(cells: Expression, name: str, group: Group, compute: Callable[[], T]) -> T:
    """Do as :func:`remembered` for something of a group, where its cells are at home."""
    return remembered(cells.home(group), (name, group), compute)


def dense_blocks(num_genes: int, num_cells: int) -> Iterator[slice]:
    """Yield slices of genes, so few at a time that a dense block of all the cells is small."""
    step = max(1, _DENSE_VALUES // max(num_cells, 1))
    for start in range(0, num_genes, step):
        yield slice(start, min(start + step, num_genes))


def dense(block: Block) -> np.ndarray:
    """Return a block as a dense array, float64."""
    values = block.toarray() if sp.issparse(block) else np.asarray(block)
    return values.astype(np.float64, copy=False)


def moments(cells: Expression, group: Group) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance (of a sample) of each gene, shapes (G,), computed once."""

    def compute() -> tuple[np.ndarray, np.ndarray]:
        block = cells.cells(group)
        count = block.shape[0]
        mean, variance = np.empty(block.shape[1]), np.empty(block.shape[1])
        for genes in dense_blocks(block.shape[1], count):
            part = dense(block[:, genes])
            mean[genes] = part.mean(axis=0)
            variance[genes] = ((part - mean[genes]) ** 2).sum(axis=0) / max(count - 1, 1)
        return mean, variance

    return remembered_of(cells, "moments", group, compute)


def stable_rows(rows: np.ndarray, names: Sequence[str] | np.ndarray, matrix: Any) -> np.ndarray:
    """Return rows in an order that does not depend on how the file lists them: by name, or by content for doubles."""
    own = np.asarray(names, dtype=str)[rows]
    if len(np.unique(own)) == len(own):
        return rows[np.argsort(own, kind="stable")]
    keys = [_digest(matrix[[row]]) for row in rows]
    return rows[np.array(sorted(range(len(rows)), key=keys.__getitem__), dtype=np.int64)]


def _gene_sums(block: Block) -> np.ndarray:
    if not sp.issparse(block):
        return np.asarray(block.sum(axis=0, dtype=np.float64))
    block = sp.csr_matrix(block)  # whose own sum adds up in the precision of its values
    return np.bincount(block.indices, weights=block.data, minlength=block.shape[1])


def _digest(row: Any) -> bytes:
    values = row.toarray() if sp.issparse(row) else np.asarray(row)
    return blake2b(np.ascontiguousarray(values, dtype=np.float64).tobytes(), digest_size=16).digest()
