"""Cells to tokens with bins: all cells of a block together, compiled or in numpy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scmodelforge.data.draws import uniforms
from scmodelforge.data.measured import Measured
from scmodelforge.data.types import CellBlock, TokenBlock
from scmodelforge.tokenizers._bin_kernel import bin_cells
from scmodelforge.tokenizers._bin_rules import BinRules
from scmodelforge.tokenizers.bins import (
    Ties,
    chosen_bins,
    edge_bin_bounds,
    levels_of,
    quantile_bin_bounds,
    width_bin_bounds,
)
from scmodelforge.tokenizers.entries import Entries, expressed_entries, has_repeats, measured, measured_tokens
from scmodelforge.tokenizers.gene_selection import Selection, is_kept
from scmodelforge.tokenizers.layout import around

__all__ = ["BinEncoder"]

_CELLS_AT_ONCE = 64  # bounds the memory of cells with all genes of their panel


@dataclass(frozen=True, slots=True)
class BinEncoder:
    """Bins the genes of cells of one panel.

    Attributes
    ----------
    tokens_of_columns
        Token of each column, shape (G,), int32, -1 where it has none.
    method, ties, selection
        As in the settings.
    edges
        Edges that all cells share, shape (K - 1,), float64, or ``None`` if a cell has its own.
    n_bins
        Number of bins K.
    classes
        Class of each token, shape (V,), uint8: genes of a lower one are kept first.
    shown
        Value shown for each bin, shape (K,), float32.
    max_genes
        Most tokens.
    first
        Tokens before the genes, at most one.
    cls_value, pad_value, mask_value
        Values that stand for no expression.
    include_zeros
        Whether genes of the panel that a cell does not express are tokens too.
    """

    tokens_of_columns: np.ndarray
    method: str
    edges: np.ndarray | None
    n_bins: int
    ties: Ties
    selection: Selection
    classes: np.ndarray
    shown: np.ndarray
    max_genes: int
    first: list[int]
    cls_value: float
    pad_value: float
    mask_value: float
    include_zeros: bool = False
    panel: np.ndarray = field(init=False)
    rules: BinRules | None = field(init=False)

    def __post_init__(self) -> None:
        columns = self.tokens_of_columns
        object.__setattr__(self, "panel", measured_tokens(columns))
        levels = levels_of(self.method, self.n_bins) if self.edges is None else self.edges
        room = self.max_genes - len(self.first)
        rules = BinRules(columns, self.classes, self.method, self.ties, self.selection, levels, room, self.first)
        object.__setattr__(self, "rules", None if has_repeats(columns) else rules)

    def encode(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        found = None if self.rules is None or self.include_zeros else bin_cells(block, self.rules, keys)
        if found is None:
            return self.in_numpy(block, keys)
        rest = Measured((self.panel,), np.zeros(len(block), dtype=np.int64), found.cut_offsets, found.cut_ids)
        return self._tokens(block, keys, found.offsets, found.ids, found.bins, rest)

    def in_numpy(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        """Return the tokens without a compiled loop."""
        if self.include_zeros and len(block) > _CELLS_AT_ONCE:
            starts = range(0, len(block), _CELLS_AT_ONCE)
            rows = [np.arange(start, min(start + _CELLS_AT_ONCE, len(block))) for start in starts]
            return TokenBlock.concatenate([self.in_numpy(block.select(part), keys[part]) for part in rows])
        entries = self.expressed(block)
        order = np.lexsort((entries.tokens, entries.cells))
        entries = Entries(*(array[order] for array in entries))
        bins, room = self.bins_of(entries, keys), self.max_genes - len(self.first)
        if self.include_zeros:
            entries, bins = self._with_zeros(entries, bins, len(block))
        kept = is_kept(entries, keys, room=room, selection=self.selection, classes=self.classes)
        lengths = np.bincount(entries.cells[kept], minlength=len(block))
        offsets, slots = around(lengths, num_first=len(self.first))
        ids = np.full(offsets[-1], self.first[0] if self.first else 0, dtype=np.int32)
        bin_ids = np.zeros(len(ids), dtype=np.int32)
        ids[slots], bin_ids[slots] = entries.tokens[kept], bins[kept]
        rest = measured(self.panel, entries, kept | (entries.values == 0), len(block))
        return self._tokens(block, keys, offsets, ids, bin_ids, rest)

    def expressed(self, block: CellBlock) -> Entries:
        """Return the expressed genes of a block."""
        return expressed_entries(block, self.tokens_of_columns, repeats=self.rules is None)

    def bins_of(self, entries: Entries, keys: np.ndarray) -> np.ndarray:
        """Return the bin of each expressed gene, shape (E,), int64."""
        cells, tokens, values = entries
        if self.edges is not None:
            lowest, highest = edge_bin_bounds(values, self.edges)
        else:
            bounds = quantile_bin_bounds if self.method == "quantile" else width_bin_bounds
            lowest, highest = bounds(cells, values, len(keys), self.n_bins)
        draws = uniforms(keys[cells], "bin", tokens) if self.ties == "random" else None
        return chosen_bins(lowest, highest, self.ties, draws)

    def _with_zeros(self, entries: Entries, bins: np.ndarray, num_cells: int) -> tuple[Entries, np.ndarray]:
        """Return all genes of the panel in each cell, tokens ascending, with bin 0 where there is no expression."""
        size = len(self.panel)
        places = entries.cells * size + np.searchsorted(self.panel, entries.tokens)
        values, all_bins = np.zeros(num_cells * size), np.zeros(num_cells * size, dtype=np.int64)
        values[places], all_bins[places] = entries.values, bins
        return Entries(np.repeat(np.arange(num_cells), size), np.tile(self.panel, num_cells), values), all_bins

    def _tokens(
        self, block: CellBlock, keys: np.ndarray, offsets: np.ndarray, ids: np.ndarray, bins: np.ndarray, rest: Measured
    ) -> TokenBlock:
        values = self.shown[bins]
        if self.first:
            values[offsets[:-1]] = self.cls_value
        shown = self.pad_value, self.mask_value
        return TokenBlock(offsets, ids, values, block.positions, keys, bins, rest, *shown, is_set=True)
