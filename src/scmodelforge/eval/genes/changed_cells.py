"""Cells in which a gene is gone, or on at its highest, as tokens.

Where tokens stand in the order of their ranks, a deleted gene's token is taken out, and that of an overexpressed one
put before those of all genes, as Geneformer does. Where they are a set, a deleted gene's token is taken out too (or
keeps its place with the value 0, where genes that are not expressed have tokens), and an overexpressed one gets the
highest value of the cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from scmodelforge.data.measured import row_offsets
from scmodelforge.data.types import TokenBlock

__all__ = ["Perturbation", "perturbed_cells"]


@dataclass(frozen=True, slots=True)
class Perturbation:
    """What is done to cells.

    Attributes
    ----------
    kind
        ``delete`` or ``overexpress``.
    genes
        Numbers of the genes, all of which are changed together.
    keeps_zeros
        Whether tokens of genes that are not expressed are among those of a cell, so that a deleted gene keeps its
        token, with the value 0 (of sets only).
    """

    kind: Literal["delete", "overexpress"]
    genes: tuple[int, ...]
    keeps_zeros: bool = False


def perturbed_cells(
    block: TokenBlock, perturbation: Perturbation, *, tokens: np.ndarray, is_gene: np.ndarray, max_length: int
) -> tuple[TokenBlock, TokenBlock, np.ndarray]:
    """Return cells before and after a perturbation, both with the same other genes.

    Parameters
    ----------
    block
        The cells.
    perturbation
        What is done.
    tokens
        Tokens of the changed genes.
    is_gene
        Whether a token is a gene's, shape (V,), bool. Special tokens stay where they are, first or last.
    max_length
        Most tokens of a cell. What an overexpressed gene pushes out is missing in the cell before, too.

    Returns
    -------
    The cells before and after, and their rows in ``block``: to delete genes a cell needs to have all of them.
    """
    before: list[_Tokens] = []
    after: list[_Tokens] = []
    rows = []
    for row in range(len(block)):
        cell = _Tokens.of(block, row)
        if perturbation.kind == "overexpress":
            pair = cell.overexpressed(tokens, is_gene, max_length, is_set=block.is_set)
        elif np.isin(tokens, cell.ids).all():
            pair = cell, cell.deleted(tokens, keeps_zeros=perturbation.keeps_zeros and block.is_set)
        else:
            continue
        rows.append(row)
        before.append(pair[0])
        after.append(pair[1])
    found = np.array(rows, dtype=np.int64)
    return _block(before, block, found), _block(after, block, found), found


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Tokens of one cell."""

    ids: np.ndarray
    values: np.ndarray
    bins: np.ndarray

    @classmethod
    def of(cls, block: TokenBlock, row: int) -> _Tokens:
        inside = slice(int(block.offsets[row]), int(block.offsets[row + 1]))
        bins = np.zeros(len(block.ids), dtype=np.int32) if block.bin_ids is None else block.bin_ids
        return cls(block.ids[inside], block.values[inside], bins[inside])

    def take(self, places: np.ndarray) -> _Tokens:
        return _Tokens(self.ids[places], self.values[places], self.bins[places])

    def deleted(self, tokens: np.ndarray, *, keeps_zeros: bool) -> _Tokens:
        is_changed = np.isin(self.ids, tokens)
        if keeps_zeros:
            return _Tokens(self.ids, np.where(is_changed, 0, self.values), np.where(is_changed, 0, self.bins))
        return self.take(np.flatnonzero(~is_changed))

    def overexpressed(
        self, tokens: np.ndarray, is_gene: np.ndarray, max_length: int, *, is_set: bool
    ) -> tuple[_Tokens, _Tokens]:
        gene, is_changed = is_gene[self.ids], np.isin(self.ids, tokens)
        others = np.flatnonzero(gene & ~is_changed)
        room = max(0, max_length - int((~gene).sum()) - len(tokens))
        order = np.argsort(-self.values[others], kind="stable") if is_set else np.arange(len(others))
        kept = np.zeros(len(self.ids), dtype=bool)
        kept[others[order[:room]]] = True
        before = self.take(np.flatnonzero(kept | is_changed | ~gene))
        highest = np.full(len(tokens), self.values[gene].max(initial=0))
        highest_bins = np.full(len(tokens), self.bins[gene].max(initial=0))
        body = _joined([_Tokens(tokens, highest, highest_bins), self.take(np.flatnonzero(kept))])
        if is_set:
            body = body.take(np.argsort(body.ids, kind="stable"))
        first = int(np.argmax(gene)) if gene.any() else len(self.ids)  # special tokens before the genes
        front = np.arange(first)
        back = np.setdiff1d(np.flatnonzero(~gene), front)
        return before, _joined([self.take(front), body, self.take(back)])


def _joined(parts: Sequence[_Tokens]) -> _Tokens:
    return _Tokens(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "values", "bins")))


def _block(cells: Sequence[_Tokens], block: TokenBlock, rows: np.ndarray) -> TokenBlock:
    nothing = _Tokens(np.zeros(0), np.zeros(0), np.zeros(0))
    joined = _joined([nothing, *cells])
    return replace(
        block,
        offsets=row_offsets(np.array([len(cell.ids) for cell in cells], dtype=np.int64)),
        ids=joined.ids.astype(np.int32),
        values=joined.values.astype(np.float32),
        bin_ids=None if block.bin_ids is None else joined.bins.astype(np.int32),
        cell_index=block.cell_index[rows],
        keys=block.keys[rows],
        measured=None,
    )
