"""Cells in which a gene is gone, up, or on at its highest, as tokens.

Where tokens stand in the order of their ranks, a deleted gene's token is taken out, and that of an overexpressed one
put before those of all genes, as Geneformer does. Where they are a set, a deleted gene's token is taken out too (or
keeps its place with the value 0, where genes that are not expressed have tokens), and an overexpressed one gets the
highest value of the cell.

An activated gene moves up by a quarter of the other genes that the cell expresses, in the order of their expression; a
silent one starts behind the last. In a set it gets the value of the gene whose place it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from scmodelforge.data.measured import row_offsets
from scmodelforge.data.types import TokenBlock

__all__ = ["CellTokens", "Kind", "Perturbation", "block_of", "perturbed_cells"]

Kind = Literal["delete", "overexpress", "activate"]


@dataclass(frozen=True, slots=True)
class Perturbation:
    """What is done to cells.

    Attributes
    ----------
    kind
        ``delete``, ``overexpress`` or ``activate``.
    genes
        Numbers of the genes, all of which are changed together.
    keeps_zeros
        Whether tokens of genes that are not expressed are among those of a cell, so that a deleted gene keeps its
        token, with the value 0 (of sets only).
    """

    kind: Kind
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
    before: list[CellTokens] = []
    after: list[CellTokens] = []
    rows = []
    for row in range(len(block)):
        cell = CellTokens.of(block, row)
        pair = cell.perturbed(perturbation, tokens, is_gene, max_length, is_set=block.is_set)
        if pair is not None:
            rows.append(row)
            before.append(pair[0])
            after.append(pair[1])
    found = np.array(rows, dtype=np.int64)
    return _block(before, block, found), _block(after, block, found), found


@dataclass(frozen=True, slots=True)
class CellTokens:
    """Tokens of one cell, each array of shape (S,)."""

    ids: np.ndarray
    values: np.ndarray
    bins: np.ndarray

    @classmethod
    def of(cls, block: TokenBlock, row: int) -> CellTokens:
        """Return a cell of a block."""
        inside = slice(int(block.offsets[row]), int(block.offsets[row + 1]))
        length = inside.stop - inside.start
        bins = np.zeros(length, dtype=np.int32) if block.bin_ids is None else block.bin_ids[inside]
        return cls(block.ids[inside], block.values[inside], bins)

    def perturbed(
        self, perturbation: Perturbation, tokens: np.ndarray, is_gene: np.ndarray, max_length: int, *, is_set: bool
    ) -> tuple[CellTokens, CellTokens] | None:
        """Return the cell before and after, or ``None`` if genes are to be deleted that it does not have.

        The arguments are those of :func:`perturbed_cells`. A cell that loses nothing beforehand is returned itself.
        """
        if perturbation.kind == "overexpress":
            return self._overexpressed(tokens, is_gene, max_length, is_set=is_set)
        if perturbation.kind == "activate":
            return self._activated(tokens, is_gene, max_length, is_set=is_set)
        if not np.isin(tokens, self.ids).all():
            return None
        return self, self._deleted(tokens, keeps_zeros=perturbation.keeps_zeros and is_set)

    def take(self, places: np.ndarray) -> CellTokens:
        """Return the tokens at some places."""
        return CellTokens(self.ids[places], self.values[places], self.bins[places])

    def _deleted(self, tokens: np.ndarray, *, keeps_zeros: bool) -> CellTokens:
        is_changed = np.isin(self.ids, tokens)
        if keeps_zeros:
            return CellTokens(self.ids, np.where(is_changed, 0, self.values), np.where(is_changed, 0, self.bins))
        return self.take(np.flatnonzero(~is_changed))

    def _overexpressed(
        self, tokens: np.ndarray, is_gene: np.ndarray, max_length: int, *, is_set: bool
    ) -> tuple[CellTokens, CellTokens]:
        before, kept = self._with_room(tokens, is_gene, max_length, is_set=is_set)
        gene = is_gene[self.ids]
        highest = np.full(len(tokens), self.values[gene].max(initial=0))
        highest_bins = np.full(len(tokens), self.bins[gene].max(initial=0))
        body = _joined([CellTokens(tokens, highest, highest_bins), self.take(kept)])
        return before, self._around(body, is_gene, is_set=is_set)

    def _activated(
        self, tokens: np.ndarray, is_gene: np.ndarray, max_length: int, *, is_set: bool
    ) -> tuple[CellTokens, CellTokens]:
        before, kept = self._with_room(tokens, is_gene, max_length, is_set=is_set)
        if is_set:
            return before, self._around(self._raised(tokens, kept), is_gene, is_set=True)
        return before, self._around(self._moved_up(tokens, kept), is_gene, is_set=False)

    def _moved_up(self, tokens: np.ndarray, others: np.ndarray) -> CellTokens:
        """Return ranked genes in which some moved up by a quarter of the others; those keep their order."""
        where = np.array([np.append(np.flatnonzero(self.ids == token), len(self.ids))[0] for token in tokens])
        order = np.argsort(where, kind="stable")
        to = np.maximum(0, np.searchsorted(others, where[order]) - _quarter(len(others)))
        source = np.minimum(where[order], len(self.ids) - 1)
        moved = CellTokens(tokens[order], self.values[source], self.bins[source])
        ranked = self.take(others)
        parts = [(getattr(ranked, name), getattr(moved, name)) for name in ("ids", "values", "bins")]
        return CellTokens(*(np.insert(rest, to, own) for rest, own in parts))

    def _raised(self, tokens: np.ndarray, others: np.ndarray) -> CellTokens:
        """Return a set of genes in which some have the value of the one a quarter of the others further up."""
        ranked = others[self.values[others] > 0]
        ranked = ranked[np.argsort(-self.values[ranked], kind="stable")]
        values, bins = np.zeros(len(tokens), self.values.dtype), np.zeros(len(tokens), self.bins.dtype)
        for number, token in enumerate(tokens):
            here = np.flatnonzero(self.ids == token)
            ahead = int((self.values[ranked] > self.values[here].max(initial=0)).sum())
            reached = ranked[max(0, ahead - _quarter(len(ranked))) :][:1]
            both = np.concatenate([here, reached])
            values[number], bins[number] = self.values[both].max(initial=0), self.bins[both].max(initial=0)
        return _joined([CellTokens(tokens, values, bins), self.take(others)])

    def _with_room(
        self, tokens: np.ndarray, is_gene: np.ndarray, max_length: int, *, is_set: bool
    ) -> tuple[CellTokens, np.ndarray]:
        """Return the cell without what the changed genes push out, and the places of the other genes that stay."""
        gene, is_changed = is_gene[self.ids], np.isin(self.ids, tokens)
        others = np.flatnonzero(gene & ~is_changed)
        room = max(0, max_length - int((~gene).sum()) - len(tokens))
        if len(others) <= room:
            return self, others
        order = np.argsort(-self.values[others], kind="stable") if is_set else np.arange(len(others))
        stays = is_changed | ~gene
        stays[others[order[:room]]] = True
        return self.take(np.flatnonzero(stays)), np.flatnonzero(stays & gene & ~is_changed)

    def _around(self, body: CellTokens, is_gene: np.ndarray, *, is_set: bool) -> CellTokens:
        """Return genes between the special tokens that stand first and last."""
        if is_set:
            body = body.take(np.argsort(body.ids, kind="stable"))
        gene = is_gene[self.ids]
        first = int(np.argmax(gene)) if gene.any() else len(self.ids)
        back = np.flatnonzero(~gene)
        return _joined([self.take(np.arange(first)), body, self.take(back[back >= first])])


def block_of(cells: Sequence[CellTokens], like: TokenBlock) -> TokenBlock:
    """Return cells in a block of the kind of another one; ``cell_index`` counts them from 0, ``keys`` are 0."""
    joined = _joined([CellTokens(*np.zeros((3, 0))), *cells])
    return TokenBlock(
        offsets=row_offsets(np.array([len(cell.ids) for cell in cells], dtype=np.int64)),
        ids=joined.ids.astype(np.int32),
        values=joined.values.astype(np.float32),
        cell_index=np.arange(len(cells)),
        keys=np.zeros(len(cells), dtype=np.uint64),
        bin_ids=None if like.bin_ids is None else joined.bins.astype(np.int32),
        pad_value=like.pad_value,
        mask_value=like.mask_value,
        is_set=like.is_set,
    )


def _joined(parts: Sequence[CellTokens]) -> CellTokens:
    return CellTokens(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "values", "bins")))


def _block(cells: Sequence[CellTokens], block: TokenBlock, rows: np.ndarray) -> TokenBlock:
    return replace(block_of(cells, block), cell_index=block.cell_index[rows], keys=block.keys[rows])


def _quarter(number: int) -> int:
    return -(-number // 4)
