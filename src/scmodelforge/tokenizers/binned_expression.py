"""Binned expression: the expressed genes of a cell, each with a bin of its expression within the cell.

Cui et al. 2024, doi:10.1038/s41592-024-02201-0 (scGPT). The edges of the K - 1 bins above zero are quantiles of the
cell's values above zero, at levels evenly spread over 0 to 1. A value equal to several edges may go into any of their
bins (:attr:`BinnedExpressionConfig.ties`); counts are small numbers, so that is the rule and not the exception. Where
we differ:

- The middle bin is the default, so that a cell has one representation; scGPT draws one, which ``ties: random`` does.
- The value shown for a bin is its number over K - 1, not its number, which would drown the gene's embedding.
- Equal cells give equal tokens whatever the order of genes in the file: tokens ascend by id, and of cells with more
  genes than fit a random part is taken by a hash of cell and gene.

Neither library size nor logarithms change a quantile bin, so normalising before is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field

from scmodelforge.config.schema import TokenizerConfig
from scmodelforge.data.draws import cell_keys, mix, uniforms
from scmodelforge.data.protocols import BoundEncoder
from scmodelforge.data.types import CellBlock, Panel, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers.base import BaseTokenizer, FittingVisitor
from scmodelforge.tokenizers.bins import BinCentres, BinFit, quantile_bin_bounds
from scmodelforge.tokenizers.entries import (
    Entries,
    expressed_entries,
    has_repeats,
    measured,
    measured_tokens,
    one_cell,
)
from scmodelforge.tokenizers.registry import register_tokenizer

__all__ = ["BinnedExpressionConfig", "BinnedExpressionTokenizer"]


class BinnedExpressionConfig(TokenizerConfig):
    """Settings of the binned expression tokenizer."""

    n_bins: int = Field(51, gt=1)
    """Number of bins K, the one of zero included. ``model.n_bins`` follows it."""
    ties: Literal["mid", "lower", "upper", "random"] = "mid"
    """Bin of a value that equals several edges: the middle, first or last of those it may have, or one drawn for each
    cell and gene (in training anew in each pass)."""
    value_scale: Literal["unit", "index"] = "unit"
    """Value shown for a bin: its number over K - 1, or its number, as scGPT has it."""
    add_cls: bool = True
    """Begin each cell with the token ``<cls>``."""


@register_tokenizer("binned_expression")
class BinnedExpressionTokenizer(BaseTokenizer):
    """Expressed genes with the quantile bin of their value within the cell.

    Parameters
    ----------
    config
        Settings.
    vocab
        The genes that have tokens.
    centres
        What bins mean in expression, fitted before; needed to turn generated bins into values.
    """

    config_class = BinnedExpressionConfig
    expects = "any"
    provides = frozenset({"input_ids", "values", "bin_ids"})
    normalizes = True

    def __init__(self, config: TokenizerConfig, vocab: GeneVocab, *, centres: BinCentres | None = None) -> None:
        super().__init__(config, vocab)
        self.centres = centres

    def tokenize(self, expression: Any, gene_ids: Iterable[str], *, key: int = 0) -> dict[str, np.ndarray]:
        """Bin the expressed genes of one cell.

        Parameters
        ----------
        expression
            Values of the cell, none negative: an array of shape (G,) or a sparse matrix of one row.
        gene_ids
            Identifiers of the genes, shape (G,). Genes the vocabulary does not have are left out.
        key
            Base of the cell's random draws: of ties, and of genes when there are more than fit.

        Returns
        -------
        ``input_ids`` (int64), ``attention_mask`` (int64, all 1), ``values`` (float32) and ``bin_ids`` (int64), each
        of shape (S,).

        Raises
        ------
        DataError
            If the numbers of values and genes differ, or a value is negative, infinite or not a number.
        """
        block = one_cell(expression, gene_ids)
        tokens = self._encoder(self.lookup(block.panel.gene_ids)).encode(block, np.full(1, key, dtype=np.uint64))
        ids, bins = tokens.ids.astype(np.int64), tokens.bin_ids
        assert bins is not None
        return {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "values": tokens.values,
            "bin_ids": bins.astype(np.int64),
        }

    def bind(self, panel: Panel) -> BoundEncoder:
        """Return an encoder for blocks of cells of one file."""
        return self._encoder(self.vocab.map_panel(panel))

    def visitor(self, is_train: Callable[[np.ndarray], np.ndarray]) -> FittingVisitor | None:
        """Return what fits the centres of the bins to the training cells."""

        def binned(block: CellBlock) -> tuple[Entries, np.ndarray]:
            encoder = self._encoder(self.vocab.map_panel(block.panel))
            return encoder.binned(block, cell_keys(0, block.positions))

        return BinFit(binned, self.config.n_bins, is_train, partial(setattr, self, "centres"))

    def bin_values(self) -> np.ndarray:
        """Return the value shown for each bin, shape (K,), float32."""
        return _shown_values(self.config)

    def describe(self) -> str:
        """Return one line on bins and length."""
        return f"{super().describe()}; {self.config.n_bins} quantile bins a cell, ties: {self.config.ties}"

    def to_dict(self) -> dict[str, Any]:
        """Return settings, the digest of the vocabulary, and centres."""
        centres = None if self.centres is None else self.centres.to_dict()
        return {**super().to_dict(), "centres": centres}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], vocab: GeneVocab) -> Self:
        """Make a tokenizer of what :meth:`to_dict` gave.

        Raises
        ------
        DataError
            If the state is damaged, or of another vocabulary.
        """
        config = cls._config_from(data)
        cls._check_vocab(data, vocab)
        state = data.get("centres")
        return cls(config, vocab, centres=None if state is None else BinCentres.from_dict(state, config.n_bins))

    def _encoder(self, tokens_of_columns: np.ndarray) -> _BinEncoder:
        return _BinEncoder(
            tokens_of_columns=tokens_of_columns,
            panel=measured_tokens(tokens_of_columns),
            repeats=has_repeats(tokens_of_columns),
            n_bins=self.config.n_bins,
            ties=self.config.ties,
            shown=_shown_values(self.config),
            max_genes=self.config.max_genes,
            first=[self.vocab.cls_id] if self.config.add_cls else [],
        )


@dataclass(frozen=True, slots=True)
class _BinEncoder:
    """Bins the genes of all cells of a block together."""

    tokens_of_columns: np.ndarray
    panel: np.ndarray
    repeats: bool
    n_bins: int
    ties: str
    shown: np.ndarray
    max_genes: int
    first: list[int]

    def encode(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        entries, bins = self.binned(block, keys)
        is_kept = self._sampled(entries, keys, len(block))
        chosen = np.flatnonzero(is_kept)
        order = chosen[np.lexsort((entries.tokens[chosen], entries.cells[chosen]))]
        cells = entries.cells[order]
        lengths = np.bincount(cells, minlength=len(block)) + len(self.first)
        slots = np.arange(len(order)) + len(self.first) * (cells + 1)
        ids = np.full(int(lengths.sum()), self.first[0] if self.first else 0, dtype=np.int32)
        ids[slots] = entries.tokens[order]
        bin_ids = np.zeros(len(ids), dtype=np.int32)
        bin_ids[slots] = bins[order]
        return TokenBlock(
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            ids=ids,
            values=self.shown[bin_ids],
            cell_index=block.positions,
            keys=keys,
            bin_ids=bin_ids,
            measured=measured(self.panel, entries, is_kept, len(block)),
        )

    def binned(self, block: CellBlock, keys: np.ndarray) -> tuple[Entries, np.ndarray]:
        """Return all expressed genes of a block and the bin of each."""
        entries = expressed_entries(block, self.tokens_of_columns, repeats=self.repeats)
        return entries, self._bins(entries, keys, len(block))

    def _bins(self, entries: Entries, keys: np.ndarray, num_cells: int) -> np.ndarray:
        lowest, highest = quantile_bin_bounds(entries.cells, entries.values, num_cells, self.n_bins)
        if self.ties == "lower":
            return lowest
        if self.ties == "upper":
            return highest
        if self.ties == "mid":
            return -(-(lowest + highest) // 2)
        draws = uniforms(keys[entries.cells], "bin", entries.tokens)
        return lowest + np.floor(draws * (highest - lowest + 1)).astype(np.int64)

    def _sampled(self, entries: Entries, keys: np.ndarray, num_cells: int) -> np.ndarray:
        """Return which expressed genes have room, shape (E,), bool: all, or a random part of a cell's."""
        room = self.max_genes - len(self.first)
        numbers = np.bincount(entries.cells, minlength=num_cells)
        is_kept = np.ones(len(entries.cells), dtype=bool)
        crowded = np.flatnonzero((numbers > room)[entries.cells])
        if len(crowded):
            cells = entries.cells[crowded]
            draws = mix("gene sample", keys[cells], entries.tokens[crowded])
            order = np.lexsort((draws, cells))
            ranks = np.arange(len(cells)) - np.searchsorted(cells, cells, side="left")
            is_kept[crowded[order]] = ranks < room
        return is_kept


def _shown_values(config: BinnedExpressionConfig) -> np.ndarray:
    numbers = np.arange(config.n_bins, dtype=np.float32)
    return numbers if config.value_scale == "index" else numbers / np.float32(config.n_bins - 1)
