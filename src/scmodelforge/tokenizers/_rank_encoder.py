"""From the cells of a block to ranked tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scmodelforge.data.measured import Measured
from scmodelforge.data.types import CellBlock, TokenBlock
from scmodelforge.tokenizers._rank_kernel import RankColumns, Ranked, rank_cells
from scmodelforge.tokenizers._ties import Ties, by_score, by_slot
from scmodelforge.tokenizers.entries import Entries, expressed_entries, has_repeats, measured, measured_tokens
from scmodelforge.tokenizers.layout import around
from scmodelforge.tokenizers.medians import TARGET_SUM

__all__ = ["CELLS_AT_ONCE", "RankEncoder", "Sequence", "sequences"]

CELLS_AT_ONCE = 256  # bounds the memory of a padded sort


@dataclass(frozen=True, slots=True)
class Sequence:
    """What a sequence of tokens looks like.

    Attributes
    ----------
    max_genes
        Most tokens, special ones included.
    first, last
        Tokens before and after the genes, each at most one.
    """

    max_genes: int
    first: list[int]
    last: list[int]

    @property
    def room(self) -> int:
        """Most genes."""
        return self.max_genes - len(self.first) - len(self.last)


def sequences(
    order: np.ndarray, lengths: np.ndarray, tokens: np.ndarray, shown: np.ndarray, form: Sequence
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cut ranked genes to what there is room for and put the special tokens around them.

    Parameters
    ----------
    order
        Numbers of the entries, ranked within each cell, shape (E,).
    lengths
        Entries of each cell, shape (n,), int64.
    tokens, shown
        Token and value of each entry, shape (E,).
    form
        What a sequence looks like.

    Returns
    -------
    Offsets, ids and values as of a ``TokenBlock``, and which entries are among them, shape (E,), bool.
    """
    ranks = np.arange(len(order)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kept, numbers = order[ranks < form.room], np.minimum(lengths, form.room)
    offsets, slots = around(numbers, num_first=len(form.first), num_last=len(form.last))
    ids, values = np.zeros(offsets[-1], dtype=np.int32), np.zeros(offsets[-1], dtype=np.float32)
    ids[slots], values[slots] = tokens[kept], shown[kept]
    if form.first:
        ids[offsets[:-1]] = form.first[0]
    if form.last:
        ids[offsets[1:] - 1] = form.last[0]
    is_kept = np.zeros(len(order), dtype=bool)
    is_kept[kept] = True
    return offsets, ids, values, is_kept


@dataclass(frozen=True, slots=True)
class RankEncoder:
    """Ranks the genes of all cells of a block together.

    Attributes
    ----------
    tokens_of_columns
        Token of each column, shape (G,), int32, -1 where it has none.
    medians
        What the expression of each token is divided by, shape (V,), float64.
    form
        What a sequence looks like.
    ties
        What decides between equal scores.
    """

    tokens_of_columns: np.ndarray
    medians: np.ndarray
    form: Sequence
    ties: Ties
    panel: np.ndarray = field(init=False)
    repeats: bool = field(init=False)
    columns: RankColumns = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "panel", measured_tokens(self.tokens_of_columns))
        object.__setattr__(self, "repeats", has_repeats(self.tokens_of_columns))
        object.__setattr__(self, "columns", RankColumns.of(self.tokens_of_columns, self.medians))

    def encode(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        """Return the tokens of all cells."""
        found = None if self.repeats or self.ties != "token" else self._compiled(block)
        if found is None:
            return self._in_numpy(block, keys)
        panel_index = np.zeros(len(block), dtype=np.int64)
        rest = Measured((self.panel,), panel_index, found.cut_offsets, found.cut_ids)
        return TokenBlock(found.offsets, found.ids, found.values, block.positions, keys, measured=rest)

    def _compiled(self, block: CellBlock) -> Ranked | None:
        found = rank_cells(block, self.columns, room=self.form.room, first=self.form.first, scale=TARGET_SUM)
        return _with_last(found, self.form.last) if found is not None and self.form.last else found

    def _in_numpy(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        if len(block) > CELLS_AT_ONCE:
            starts = range(0, len(block), CELLS_AT_ONCE)
            rows = [np.arange(start, min(start + CELLS_AT_ONCE, len(block))) for start in starts]
            return TokenBlock.concatenate([self._in_numpy(block.select(part), keys[part]) for part in rows])
        entries = expressed_entries(block, self.tokens_of_columns, repeats=self.repeats)
        if self.ties == "token":
            order, lengths = self._ranked(entries, len(block))
        else:
            entries = self._in_columns(entries)
            lengths = np.bincount(entries.cells, minlength=len(block))
            order = by_score(entries.values / self.medians[entries.tokens], lengths, self.ties)
        shown = np.log1p(entries.values / block.totals()[entries.cells] * TARGET_SUM)
        offsets, ids, values, is_kept = sequences(order, lengths, entries.tokens, shown, self.form)
        rest = measured(self.panel, entries, is_kept, len(block))
        return TokenBlock(offsets, ids, values, block.positions, keys, measured=rest)

    def _in_columns(self, entries: Entries) -> Entries:
        """Return the entries in the order of the file; a token is where its first column is."""
        tokens, first = np.unique(self.tokens_of_columns[self.tokens_of_columns >= 0], return_index=True)
        column_of = np.zeros(len(self.medians), dtype=np.int64)
        column_of[tokens] = first
        order = by_slot(entries.cells, column_of[entries.tokens], num_slots=len(self.tokens_of_columns))
        return Entries(*(array[order] for array in entries))

    def _ranked(self, entries: Entries, num_cells: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of the entries, ranked within each cell, shape (E,), and the entries of each cell."""
        cells, tokens, values = entries
        scores = values / self.medians[tokens]
        lengths = np.bincount(cells, minlength=num_cells)
        starts = np.cumsum(lengths) - lengths
        width = int(lengths.max(initial=0))
        # One sort key an entry: the bits of the score, which for positive floats rise with it, turned round so that
        # large scores come first, with the token in place of the lowest bits. Padding has the largest key.
        low = np.uint64((1 << int(len(self.medians) - 1).bit_length()) - 1)
        packed = (~(scores.view(np.uint64) << np.uint64(1)) & ~low) | tokens.astype(np.uint64)
        is_filled = np.arange(width) < lengths[:, None]
        keys = np.full((num_cells, width), np.iinfo(np.uint64).max, dtype=np.uint64)
        keys[is_filled] = packed
        order = (np.argsort(keys, axis=1) + starts[:, None])[is_filled]
        # Scores that differ in the lowest bits only are rare and may stand the wrong way round.
        ranked = scores[order]
        if np.any((ranked[1:] > ranked[:-1]) & (cells[1:] == cells[:-1])):
            order = np.lexsort((tokens, -scores, cells))
        return order, lengths


def _with_last(found: Ranked, last: list[int]) -> Ranked:
    """Return sequences with a token at their ends."""
    cells = np.repeat(np.arange(len(found.offsets) - 1), np.diff(found.offsets))
    slots = np.arange(len(found.ids)) + cells
    size = len(found.ids) + len(found.offsets) - 1
    ids, values = np.full(size, last[0], dtype=np.int32), np.zeros(size, dtype=np.float32)
    ids[slots], values[slots] = found.ids, found.values
    return found._replace(offsets=found.offsets + np.arange(len(found.offsets)), ids=ids, values=values)
