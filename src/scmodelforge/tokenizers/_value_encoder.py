"""Cells to tokens with real values: all cells of a block together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from scmodelforge.data.measured import Measured, row_offsets
from scmodelforge.data.types import CellBlock, TokenBlock
from scmodelforge.tokenizers._collect_kernel import Collected, collect_cells
from scmodelforge.tokenizers._selection_kernel import select_genes
from scmodelforge.tokenizers.entries import Entries, expressed_entries, has_repeats, measured_tokens
from scmodelforge.tokenizers.gene_selection import is_kept
from scmodelforge.tokenizers.layout import around
from scmodelforge.tokenizers.medians import TARGET_SUM

__all__ = ["ValueEncoder", "ValueTransform"]

ValueTransform = Literal["log1p_cp10k", "log1p", "counts", "as_given"]


@dataclass(frozen=True, slots=True)
class ValueEncoder:
    """Takes the genes of cells of one panel with their values.

    Attributes
    ----------
    tokens_of_columns
        Token of each column, shape (G,), int32, -1 where it has none.
    vocab_size
        Number of tokens V.
    value_transform, clip, selection
        As in the settings.
    descends
        Whether genes stand by value, the highest first, instead of by token.
    max_genes
        Most tokens.
    first
        Tokens before the genes, at most one.
    """

    tokens_of_columns: np.ndarray
    vocab_size: int
    value_transform: ValueTransform
    clip: float | None
    descends: bool
    selection: Literal["random", "top"]
    max_genes: int
    first: list[int]
    panel: np.ndarray = field(init=False)
    repeats: bool = field(init=False)
    one_class: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "panel", measured_tokens(self.tokens_of_columns))
        object.__setattr__(self, "repeats", has_repeats(self.tokens_of_columns))
        object.__setattr__(self, "one_class", np.zeros(self.vocab_size, dtype=np.uint8))

    def encode(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        """Return the tokens of all cells."""
        compiled = None if self.repeats else collect_cells(block, self.tokens_of_columns)
        kept, cut = self.in_numpy(block, keys) if compiled is None else self._with_room(compiled, keys)
        lengths = np.diff(kept.offsets)
        shown = self._shown(kept.values.astype(np.float64), block, lengths)
        genes = kept.ids
        if self.descends:
            order = np.lexsort((genes, -kept.values, np.repeat(np.arange(len(block)), lengths)))
            genes, shown = genes[order], shown[order]
        offsets, slots = around(lengths, num_first=len(self.first))
        ids = np.full(offsets[-1], self.first[0] if self.first else 0, dtype=np.int32)
        values = np.zeros(len(ids), dtype=np.float32)
        ids[slots], values[slots] = genes, shown
        rest = Measured((self.panel,), np.zeros(len(block), dtype=np.int64), cut.offsets, cut.ids)
        return TokenBlock(offsets, ids, values, block.positions, keys, measured=rest, is_set=not self.descends)

    def in_numpy(self, block: CellBlock, keys: np.ndarray) -> tuple[Collected, Collected]:
        """Return the genes that have room and those that have none, without a compiled loop."""
        entries = expressed_entries(block, self.tokens_of_columns, repeats=self.repeats)
        order = np.lexsort((entries.tokens, entries.cells))
        entries = Entries(*(array[order] for array in entries))
        has_room = is_kept(entries, keys, room=self._room, selection=self.selection, classes=None)

        def those(chosen: np.ndarray) -> Collected:
            numbers = np.bincount(entries.cells[chosen], minlength=len(block))
            return Collected(row_offsets(numbers), entries.tokens[chosen], entries.values[chosen])

        return those(has_room), those(~has_room)

    def _with_room(self, genes: Collected, keys: np.ndarray) -> tuple[Collected, Collected]:
        """Return the genes that have room and those that have none."""
        if np.diff(genes.offsets).max(initial=0) <= self._room:
            return genes, Collected(np.zeros_like(genes.offsets), genes.ids[:0], genes.values[:0])
        found = select_genes(*genes, keys, selection=self.selection, classes=self.one_class, room=self._room)
        assert found is not None  # the genes were collected by a compiled loop
        kept = Collected(found.offsets, genes.ids[found.places], genes.values[found.places])
        return kept, Collected(found.cut_offsets, genes.ids[found.cut], genes.values[found.cut])

    @property
    def _room(self) -> int:
        """Most genes of a cell."""
        return self.max_genes - len(self.first)

    def _shown(self, values: np.ndarray, block: CellBlock, lengths: np.ndarray) -> np.ndarray:
        """Return what the tokens have of expression, shape (T,), float64."""
        if self.value_transform == "log1p_cp10k":
            values = np.log1p(values / np.repeat(block.totals(), lengths) * TARGET_SUM)
        elif self.value_transform == "log1p":
            values = np.log1p(values)
        return values if self.clip is None else np.minimum(values, self.clip)
