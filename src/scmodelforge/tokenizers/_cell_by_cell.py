"""The one-cell form of a tokenizer as an encoder of blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge.data.types import CellBlock, Panel, TokenBlock
from scmodelforge.tokenizers.entries import expressed_entries, has_repeats, measured

if TYPE_CHECKING:
    from scmodelforge.tokenizers.base import BaseTokenizer

__all__ = ["CellByCell"]


@dataclass(frozen=True, slots=True)
class CellByCell:
    """Tokenises one cell after the other.

    Attributes
    ----------
    tokenizer
        The tokenizer.
    panel
        The genes of the columns.
    tokens_of_columns
        Token of each column, shape (G,), int32, -1 where it has none.
    panel_tokens
        Tokens that columns have, ascending.
    """

    tokenizer: BaseTokenizer
    panel: Panel
    tokens_of_columns: np.ndarray
    panel_tokens: np.ndarray

    def encode(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        has_bins = "bin_ids" in self.tokenizer.provides
        names = ("input_ids", "values", *(("bin_ids",) if has_bins else ()))
        cells = [self._cell(block, row, int(keys[row]), names) for row in range(len(block))]

        def joined(name: str, dtype: type) -> np.ndarray:
            return np.concatenate([np.zeros(0), *(cell[name] for cell in cells)]).astype(dtype)

        columns = self.tokens_of_columns
        entries = expressed_entries(block, columns, repeats=has_repeats(columns))
        size, ids = len(self.tokenizer.vocab), joined("input_ids", np.int32)
        lengths = [len(cell["input_ids"]) for cell in cells]
        shown = np.repeat(np.arange(len(block)), lengths) * size + ids
        is_kept = np.isin(entries.cells * size + entries.tokens, shown)
        return TokenBlock(
            offsets=np.cumsum([0, *lengths]).astype(np.int64),
            ids=ids,
            values=joined("values", np.float32),
            cell_index=block.positions,
            keys=keys,
            bin_ids=joined("bin_ids", np.int32) if has_bins else None,
            measured=measured(self.panel_tokens, entries, is_kept, len(block)),
            pad_value=self.tokenizer.pad_value,
            mask_value=self.tokenizer.mask_value,
            is_set=self.tokenizer.is_set,
        )

    def _cell(self, block: CellBlock, row: int, key: int, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        entries = slice(block.indptr[row], block.indptr[row + 1])
        expression = np.zeros(len(self.panel.gene_ids), dtype=np.float32)
        np.add.at(expression, block.indices[entries], block.data[entries])
        found = self.tokenizer.tokenize(expression, self.panel.gene_ids, key=key)
        self._check(found, names)
        is_token = np.asarray(found["attention_mask"]) != 0
        return {name: np.asarray(found[name])[is_token] for name in names}

    def _check(self, found: dict[str, np.ndarray], names: tuple[str, ...]) -> None:
        """Refuse what cannot become a batch: the mistakes a new tokenizer makes."""
        who = f"tokenize() of tokenizer '{self.tokenizer.strategy}' returned"
        needed = ("attention_mask", *names)
        missing = [name for name in needed if name not in found]
        if missing:
            msg = f"{who} no '{missing[0]}'; it must return {', '.join(needed)}."
            raise ConfigError(msg)
        shapes = {name: np.shape(found[name]) for name in needed}
        if len(set(shapes.values())) > 1 or len(shapes["input_ids"]) != 1:
            listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            msg = f"{who} arrays of shapes {listed}; all must have shape (tokens,)."
            raise ConfigError(msg)
        ids = np.asarray(found["input_ids"])
        size, limit = len(self.tokenizer.vocab), self.tokenizer.config.max_genes
        outside = ids[(ids < 0) | (ids >= size)]
        if len(outside):
            msg = f"{who} token id {outside[0]}, but the vocabulary has ids 0 to {size - 1}; leave unknown genes out."
            raise ConfigError(msg)
        if np.count_nonzero(found["attention_mask"]) > limit:
            msg = f"{who} {len(ids):,} tokens, more than tokenizer.max_genes ({limit:,}); cut the sequence."
            raise ConfigError(msg)
