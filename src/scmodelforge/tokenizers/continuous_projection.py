"""Continuous projection: the expressed genes of a cell with their real values, none of which is ranked or binned.

What becomes of the values is the model's part, and said here (``embedding``), since it must fit what the values are:

- ``linear`` projects them to the width of the model.
- ``auto_bins`` gives each value its own mixture of learned bins: scFoundation, Hao et al. 2024,
  doi:10.1038/s41592-024-02305-7.
- ``attention_bias`` adds log(1 + count) to the attention that a gene gets: TranscriptFormer, Pearce et al. 2025,
  doi:10.1101/2025.04.25.650731. Its counts are clipped at 30 (``clip``).

Equal cells give equal tokens whatever the order of genes in the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from scmodelforge.config.schema import TokenizerConfig
from scmodelforge.data.draws import mix
from scmodelforge.data.protocols import BoundEncoder
from scmodelforge.data.types import CellBlock, EmbeddingSpec, Panel, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers.base import BaseTokenizer
from scmodelforge.tokenizers.entries import (
    Entries,
    expressed_entries,
    has_repeats,
    measured,
    measured_tokens,
    one_cell,
)
from scmodelforge.tokenizers.registry import register_tokenizer

__all__ = ["ContinuousProjectionConfig", "ContinuousProjectionTokenizer"]

_TARGET_SUM = 10_000.0
_LAST = np.iinfo(np.uint64).max


class ContinuousProjectionConfig(TokenizerConfig):
    """Settings of the continuous projection tokenizer."""

    value_transform: Literal["log1p_cp10k", "log1p", "counts", "as_given"] = "log1p_cp10k"
    """Value of a gene: log(1 + counts per 10,000 of the cell), log(1 + counts), the counts, or whatever positive number
    the data has."""
    clip: float | None = Field(None, gt=0)
    """Largest value shown, after the transformation; ``None`` clips nothing."""
    order: Literal["token", "expression"] = "token"
    """Genes ascend by token, or descend by value."""
    selection: Literal["random", "top"] = "random"
    """Genes kept when more are expressed than fit: drawn for each cell (in training anew in each pass), or those of
    highest value."""
    embedding: Literal["linear", "auto_bins", "attention_bias"] = "linear"
    """What the model does with values: project them, give each a mixture of learned bins, or add log(1 + count) to the
    attention that the gene gets, which needs ``value_transform: counts``."""
    num_auto_bins: int = Field(100, gt=1)
    """Learned bins of ``embedding: auto_bins``."""
    add_cls: bool = True
    """Begin each cell with the token ``<cls>``."""

    @model_validator(mode="after")
    def _bias_needs_counts(self) -> ContinuousProjectionConfig:
        if self.embedding == "attention_bias" and self.value_transform not in ("counts", "as_given"):
            msg = (
                f"embedding 'attention_bias' takes the logarithm of counts itself, but value_transform is "
                f"'{self.value_transform}'; set value_transform to 'counts'"
            )
            raise ValueError(msg)
        return self

    @property
    def expects(self) -> Literal["counts", "any"]:
        """What the data must be: counts, unless values are taken as they are."""
        return "any" if self.value_transform == "as_given" else "counts"

    @property
    def normalizes(self) -> bool:
        """Whether values are divided by the cell's total, so that doing so before changes nothing."""
        return self.value_transform == "log1p_cp10k"


@register_tokenizer("continuous_projection")
class ContinuousProjectionTokenizer(BaseTokenizer):
    """Expressed genes with their values.

    Parameters
    ----------
    config
        Settings.
    vocab
        The genes that have tokens.
    """

    config_class = ContinuousProjectionConfig

    def __init__(self, config: TokenizerConfig, vocab: GeneVocab) -> None:
        super().__init__(config, vocab)
        self.expects = self.config.expects
        self.normalizes = self.config.normalizes

    def tokenize(self, expression: Any, gene_ids: Iterable[str], *, key: int = 0) -> dict[str, np.ndarray]:
        """Take the expressed genes of one cell.

        Parameters
        ----------
        expression
            Values of the cell, none negative: an array of shape (G,) or a sparse matrix of one row.
        gene_ids
            Identifiers of the genes, shape (G,). Genes the vocabulary does not have count towards the total only.
        key
            Base of the cell's random draws: of genes when there are more than fit.

        Returns
        -------
        ``input_ids`` (int64), ``attention_mask`` (int64, all 1) and ``values`` (float32), each of shape (S,).

        Raises
        ------
        DataError
            If the numbers of values and genes differ, or a value is negative, infinite or not a number.
        """
        block = one_cell(expression, gene_ids)
        tokens = self._encoder(self.lookup(block.panel.gene_ids)).encode(block, np.full(1, key, dtype=np.uint64))
        ids = tokens.ids.astype(np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "values": tokens.values}

    def bind(self, panel: Panel) -> BoundEncoder:
        """Return an encoder for blocks of cells of one file."""
        return self._encoder(self.vocab.map_panel(panel))

    def embedding_spec(self) -> EmbeddingSpec:
        """Return how models use the values."""
        return EmbeddingSpec(values=self.config.embedding, num_auto_bins=self.config.num_auto_bins)

    def describe(self) -> str:
        """Return one line on values and length."""
        clip = "" if self.config.clip is None else f" up to {self.config.clip:g}"
        return f"{super().describe()}; values: {self.config.value_transform}{clip}, used as {self.config.embedding}"

    def _encoder(self, tokens_of_columns: np.ndarray) -> _ValueEncoder:
        return _ValueEncoder(
            tokens_of_columns=tokens_of_columns,
            panel=measured_tokens(tokens_of_columns),
            repeats=has_repeats(tokens_of_columns),
            vocab_size=len(self.vocab),
            config=self.config,
            first=[self.vocab.cls_id] if self.config.add_cls else [],
        )


@dataclass(frozen=True, slots=True)
class _ValueEncoder:
    """Takes the genes of all cells of a block together."""

    tokens_of_columns: np.ndarray
    panel: np.ndarray
    repeats: bool
    vocab_size: int
    config: ContinuousProjectionConfig
    first: list[int]

    def encode(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        entries = expressed_entries(block, self.tokens_of_columns, repeats=self.repeats)
        is_kept = self._selected(entries, keys, len(block))
        chosen = np.flatnonzero(is_kept)
        order = chosen[self._order(Entries(*(array[chosen] for array in entries)))]
        cells = entries.cells[order]
        lengths = np.bincount(cells, minlength=len(block)) + len(self.first)
        slots = np.arange(len(order)) + len(self.first) * (cells + 1)
        ids = np.full(int(lengths.sum()), self.first[0] if self.first else 0, dtype=np.int32)
        ids[slots] = entries.tokens[order]
        values = np.zeros(len(ids), dtype=np.float32)
        values[slots] = self._shown(entries.values[order], cells, block)
        return TokenBlock(
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            ids=ids,
            values=values,
            cell_index=block.positions,
            keys=keys,
            measured=measured(self.panel, entries, is_kept, len(block)),
        )

    def _order(self, entries: Entries) -> np.ndarray:
        if self.config.order == "token":
            return np.argsort(entries.cells * self.vocab_size + entries.tokens)
        keys = _rows(self._descending(entries), entries.cells)
        is_filled = keys != _LAST
        starts = np.cumsum(is_filled.sum(axis=1)) - is_filled.sum(axis=1)
        return (np.argsort(keys, axis=1) + starts[:, None])[is_filled]

    def _shown(self, values: np.ndarray, cells: np.ndarray, block: CellBlock) -> np.ndarray:
        transform = self.config.value_transform
        if transform == "log1p_cp10k":
            values = np.log1p(values / block.totals()[cells] * _TARGET_SUM)
        elif transform == "log1p":
            values = np.log1p(values)
        return values if self.config.clip is None else np.minimum(values, self.config.clip)

    def _selected(self, entries: Entries, keys: np.ndarray, num_cells: int) -> np.ndarray:
        """Return which expressed genes have room, shape (E,), bool: all, or some of a cell's."""
        room = self.config.max_genes - len(self.first)
        numbers = np.bincount(entries.cells, minlength=num_cells)
        is_kept = np.ones(len(entries.cells), dtype=bool)
        crowded = np.flatnonzero((numbers > room)[entries.cells])
        if len(crowded):
            those = Entries(*(array[crowded] for array in entries))
            if self.config.selection == "top":
                ranks = self._descending(those)
            else:
                ranks = self._unique(mix("gene sample", keys[those.cells], those.tokens), those.tokens)
            rows = _rows(ranks, those.cells)
            last = np.partition(rows, room - 1, axis=1)[:, room - 1]
            is_kept[crowded] = ranks <= np.repeat(last, numbers[numbers > room])
        return is_kept

    def _descending(self, entries: Entries) -> np.ndarray:
        """Return numbers that ascend where values descend and, of equal values, tokens ascend, shape (E,), uint64.

        The bits of positive floats rise with them. Values that differ by less than 1e-10 of themselves count as equal.
        """
        return self._unique(~(entries.values.view(np.uint64) << np.uint64(1)), entries.tokens)

    def _unique(self, numbers: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Return the numbers with the token in place of their lowest bits, so that those of a cell all differ."""
        low = np.uint64((1 << (self.vocab_size - 1).bit_length()) - 1)
        return (numbers & ~low) | tokens.astype(np.uint64)


def _rows(numbers: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return the numbers of each cell that has some in a row of its own, filled up with the largest number there is."""
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    lengths = np.diff(np.append(starts, len(cells)))
    rows = np.full((len(starts), int(lengths.max(initial=0))), _LAST, dtype=np.uint64)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = numbers
    return rows
