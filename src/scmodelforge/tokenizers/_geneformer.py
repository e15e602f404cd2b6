"""The tokens of Geneformer's own code, its oddities included, for models that were trained on them.

What is known of that code (version of 2026-02) and done here alike; a cell's depth is what obs ``n_counts`` says:

- A gene id is looked up in capitals in the published id mapping, with its version if it has one. If as many ids as
  genes are found, columns with the same id stand beside each other and their token occurs twice in a cell; if not, the
  columns of a gene that has several are summed and come after all others.
- Values are scaled step by step in the types they are stored in: ``(x * (1 / n)) * 10,000 * (1 / m)`` of a sparse
  matrix, ``x / n * 10,000 / m`` of a dense one, with count x, depth n and median m of the gene.
- Zeros stored in a sparse matrix are ranked, and so are negative values. Of a dense matrix, a cell of depth 0 or NaN
  has all genes.

Where we differ: equal scores are left to ``ties``, a gene stored twice in a row of a sparse matrix is summed, and dense
matrices in which two columns are one gene are summed as sparse ones are, while that code stops at them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scmodelforge.data.types import CellBlock, Panel, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers._rank_encoder import CELLS_AT_ONCE, Sequence, sequences
from scmodelforge.tokenizers._ties import Ties, by_score, by_slot
from scmodelforge.tokenizers.entries import Entries, check_one_cell, measured, measured_tokens

__all__ = ["CompatColumns", "CompatEncoder", "stored_cell"]

#: An int, so that it leaves the type of what it is multiplied with as it is.
_TARGET_SUM = 10_000
#: Sums of whole numbers do not overflow.
_SUM_TYPES = {"b": np.dtype(np.int64), "i": np.dtype(np.int64), "u": np.dtype(np.uint64)}


@dataclass(frozen=True, slots=True)
class CompatColumns:
    """The genes of a file in the order in which that code has them.

    Attributes
    ----------
    slots
        Place of each column's gene, shape (G,), int64, -1 where it has none.
    tokens
        Token at each place, shape (P,), int32.
    is_sum
        Whether several columns are summed there, shape (P,), bool.
    """

    slots: np.ndarray
    tokens: np.ndarray
    is_sum: np.ndarray

    @classmethod
    def of(cls, gene_ids: Iterable[str], id_mapping: Mapping[str, str], vocab: GeneVocab) -> CompatColumns:
        """Look up the genes of a file.

        Parameters
        ----------
        gene_ids
            Their ids, shape (G,).
        id_mapping
            Gene of the vocabulary under each id in capitals.
        vocab
            The genes that have tokens.
        """
        ids = [str(gene) for gene in gene_ids]
        genes = [id_mapping.get(gene.upper()) for gene in ids]
        found = Counter(gene for gene in genes if gene is not None)
        distinct = {gene for gene, target in zip(ids, genes, strict=True) if target is not None}
        is_summed = len(distinct) != len(found)
        token_of = dict(zip(vocab.genes, vocab.gene_tokens.tolist(), strict=True))
        alone = [c for c, gene in enumerate(genes) if gene is not None and not (is_summed and found[gene] > 1)]
        slots = np.full(len(ids), -1, dtype=np.int64)
        slots[alone] = np.arange(len(alone))
        sums: dict[str, int] = {}
        for column, gene in enumerate(genes):
            if is_summed and gene is not None and found[gene] > 1:
                slots[column] = sums.setdefault(gene, len(alone) + len(sums))
        names = [*(str(genes[column]) for column in alone), *sums]
        tokens = np.array([token_of[gene] for gene in names], dtype=np.int32)
        return cls(slots, tokens, np.arange(len(names)) >= len(alone))

    def by_token(self) -> CompatColumns:
        """Return the same with places in the order of the tokens."""
        order = np.argsort(self.tokens, kind="stable")
        place = np.empty(len(order) + 1, dtype=np.int64)
        place[order] = np.arange(len(order))
        place[-1] = -1
        return CompatColumns(place[self.slots], self.tokens[order], self.is_sum[order])


@dataclass(frozen=True, slots=True)
class CompatEncoder:
    """Ranks the genes of cells as Geneformer's own code does.

    Attributes
    ----------
    columns
        The genes.
    medians
        Median of each token, shape (V,), float64.
    form
        What a sequence looks like.
    ties
        What decides between equal scores.
    """

    columns: CompatColumns
    medians: np.ndarray
    form: Sequence
    ties: Ties

    def encode(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        """Return the tokens of cells of a sparse matrix whose depths are their totals."""
        return self.encode_stored(block, keys, depths=block.totals(), is_dense=False)

    def encode_stored(self, block: CellBlock, keys: np.ndarray, *, depths: np.ndarray, is_dense: bool) -> TokenBlock:
        """Return the tokens of all cells.

        Parameters
        ----------
        block
            The cells, with values in the type they are stored in.
        keys
            Base of each cell's random draws, shape (n,), uint64; nothing is drawn.
        depths
            obs ``n_counts`` of each cell, in the type it is stored in, shape (n,).
        is_dense
            Whether the matrix is stored with all its zeros.
        """
        if len(block) > CELLS_AT_ONCE:
            starts = range(0, len(block), CELLS_AT_ONCE)
            parts = [slice(start, min(start + CELLS_AT_ONCE, len(block))) for start in starts]
            tokens = [
                self.encode_stored(_part(block, part), keys[part], depths=depths[part], is_dense=is_dense)
                for part in parts
            ]
            return TokenBlock.concatenate(tokens)
        cells, slots, values = self._entries(block, np.flatnonzero(~(np.abs(depths) > 0)) if is_dense else None)
        tokens_here = self.columns.tokens[slots]
        scores = self._scores(values, depths[cells], self.medians[tokens_here], is_dense=is_dense)
        if is_dense:
            stays = scores != 0
            cells, tokens_here, values, scores = (array[stays] for array in (cells, tokens_here, values, scores))
        order = by_score(scores, np.bincount(cells, minlength=len(block)), self.ties)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = values / depths[cells]
        shown = np.log1p(np.where(np.isfinite(share) & (share > 0), share, 0.0) * float(_TARGET_SUM))
        lengths = np.bincount(cells, minlength=len(block))
        offsets, ids, logs, is_kept = sequences(order, lengths, tokens_here, shown, self.form)
        entries = Entries(cells, tokens_here, values)
        rest = measured(measured_tokens(self.columns.tokens), entries, is_kept, len(block))
        return TokenBlock(offsets, ids, logs, block.positions, keys, measured=rest)

    def _entries(self, block: CellBlock, full: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return cell, place and value of all stored values, by cell and place; all places of the cells ``full``."""
        slots = self.columns.slots[block.indices]
        known = slots >= 0
        cells = np.repeat(np.arange(len(block)), np.diff(block.indptr))[known]
        slots, values, width = slots[known], block.data[known], max(1, len(self.columns.tokens))
        if full is not None and len(full):
            everywhere = (full[:, None] * width + np.arange(len(self.columns.tokens))).ravel()
            absent = np.setdiff1d(everywhere, cells * width + slots)
            cells, slots = np.concatenate([cells, absent // width]), np.concatenate([slots, absent % width])
            values = np.concatenate([values, np.zeros(len(absent), dtype=values.dtype)])
        order = by_slot(cells, slots, num_slots=width)
        cells, slots, values = cells[order], slots[order], values[order]
        is_first = np.ones(len(cells), dtype=bool)
        is_first[1:] = (np.diff(cells) != 0) | (np.diff(slots) != 0)
        if not is_first.all():
            starts = np.flatnonzero(is_first)
            values = np.add.reduceat(values, starts, dtype=_SUM_TYPES.get(values.dtype.kind, values.dtype))
            cells, slots = cells[starts], slots[starts]
        stays = ~(self.columns.is_sum[slots] & (values == 0))
        return cells[stays], slots[stays], values[stays]

    @staticmethod
    def _scores(values: np.ndarray, depths: np.ndarray, medians: np.ndarray, *, is_dense: bool) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            scores = (
                values / depths * _TARGET_SUM / medians
                if is_dense
                else values * (1 / depths) * _TARGET_SUM * (1 / medians)
            )
        return np.asarray(scores, dtype=np.float64)


def stored_cell(expression: Any, gene_ids: Iterable[str]) -> CellBlock:
    """Return one cell as a block: of an array all but the zeros, of a sparse matrix of one row all that it stores.

    Raises
    ------
    DataError
        If the numbers of values and genes differ.
    """
    ids = np.asarray(gene_ids, dtype=object)
    row: Any = expression.tocoo() if hasattr(expression, "tocoo") else np.asarray(expression)
    check_one_cell(row.shape, ids)
    columns = row.col if hasattr(row, "col") else np.flatnonzero(row)
    values = row.data if hasattr(row, "col") else row.ravel()[columns]
    indptr, position = np.array([0, len(columns)], dtype=np.int64), np.zeros(1, dtype=np.int64)
    return CellBlock(values.astype(np.float32), columns, indptr, Panel(ids, "the given cell"), position)


def _part(block: CellBlock, cells: slice) -> CellBlock:
    """Return a range of cells without copying a value, whatever its type."""
    indptr = block.indptr[cells.start : cells.stop + 1]
    inside = slice(int(indptr[0]), int(indptr[-1]))
    return CellBlock(block.data[inside], block.indices[inside], indptr - indptr[0], block.panel, block.positions[cells])
