"""Rank value: the genes of a cell in the order of their expression, each relative to the gene's typical expression.

Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9 (Geneformer). With count x of a gene, total n of the cell over
all genes of its file and median m of the gene (:mod:`scmodelforge.tokenizers.medians`), genes are ranked by
``x / n * 10,000 / m``, largest first. Where we differ:

- n and 10,000 are the same for all genes of a cell, so genes are ranked by x / m: fewer roundings, the same order.
- Equal ranks go by token id, never by the place of the gene in the file, so that permuted files give equal tokens.
- Stored zeros are no expression. Several columns of one gene are summed.
- Each token has a value, ``log(1 + x / n * 10,000)``, for models that use it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import TokenizerConfig
from scmodelforge.data.measured import Measured
from scmodelforge.data.protocols import BoundEncoder
from scmodelforge.data.types import CellBlock, Panel, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers._rank_kernel import RankColumns, Ranked, rank_cells
from scmodelforge.tokenizers.base import BaseTokenizer, FittingVisitor
from scmodelforge.tokenizers.entries import (
    Entries,
    expressed_entries,
    has_repeats,
    measured,
    measured_tokens,
    one_cell,
)
from scmodelforge.tokenizers.medians import TARGET_SUM, GeneMedians, MedianFit, read_medians
from scmodelforge.tokenizers.registry import register_tokenizer

__all__ = ["RankValueConfig", "RankValueTokenizer"]

_log = logging.getLogger(__name__)
_CELLS_AT_ONCE = 256  # bounds the memory of a padded sort


class RankValueConfig(TokenizerConfig):
    """Settings of the rank value tokenizer."""

    add_cls: bool = True
    """Begin each cell with the token ``<cls>``."""
    medians: str = "fit"
    """``fit`` takes them over the training cells, ``none`` ranks by counts alone; else a JSON file ``{gene: median}``
    or a text file with a gene, a tab and its median a line. Genes without a median count as 1."""


@register_tokenizer("rank_value")
class RankValueTokenizer(BaseTokenizer):
    """Genes by descending expression relative to their medians.

    Parameters
    ----------
    config
        Settings.
    vocab
        The genes that have tokens.
    medians
        Medians fitted before; ``None`` takes them from where the settings say.

    Raises
    ------
    ConfigError, DataError
        If the file of medians is missing or not one.
    """

    config_class = RankValueConfig
    normalizes = True

    def __init__(self, config: TokenizerConfig, vocab: GeneVocab, *, medians: GeneMedians | None = None) -> None:
        super().__init__(config, vocab)
        if medians is None and self.config.medians == "none":
            medians = GeneMedians.none(vocab)
        elif medians is None and self.config.medians != "fit":
            medians = read_medians(self.config.medians, vocab)
            if medians.num_genes < len(vocab.genes):
                absent = len(vocab.genes) - medians.num_genes
                _log.warning(f"{self.config.medians} lacks {absent:,} genes of the vocabulary; their medians are 1.")
        self.medians = medians

    def tokenize(self, expression: Any, gene_ids: Iterable[str], *, key: int = 0) -> dict[str, np.ndarray]:
        """Rank the genes of one cell.

        Parameters
        ----------
        expression
            Counts, or counts normalised by library size: an array of shape (G,) or a sparse matrix of one row.
        gene_ids
            Identifiers of the genes, shape (G,). Genes the vocabulary does not have count towards the total only.
        key
            Not used: nothing is drawn.

        Returns
        -------
        ``input_ids`` (int64), ``attention_mask`` (int64, all 1) and ``values`` (float32), each of shape (S,).

        Raises
        ------
        DataError
            If the numbers of values and genes differ, or a value is negative, infinite or not a number.
        ConfigError
            If the medians are not fitted.
        """
        block = one_cell(expression, gene_ids)
        tokens = self._encoder(self.lookup(block.panel.gene_ids)).encode(block, np.full(1, key, dtype=np.uint64))
        ids = tokens.ids.astype(np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "values": tokens.values}

    def bind(self, panel: Panel) -> BoundEncoder:
        """Return an encoder for blocks of cells of one file.

        Raises
        ------
        ConfigError
            If the medians are not fitted.
        """
        return self._encoder(self.vocab.map_panel(panel))

    def visitor(self, is_train: Callable[[np.ndarray], np.ndarray]) -> FittingVisitor | None:
        """Return what fits the medians to the training cells, or ``None`` if the settings say where they come from."""
        if self.config.medians != "fit":
            return None
        return MedianFit(self.vocab, is_train, partial(setattr, self, "medians"))

    def describe(self) -> str:
        """Return one line on length and medians."""
        return f"{super().describe()}; {self._describe_medians()}"

    def to_dict(self) -> dict[str, Any]:
        """Return settings, medians and the digest of their vocabulary.

        Raises
        ------
        ConfigError
            If the medians are not fitted.
        """
        return {**super().to_dict(), "medians": self._fitted().to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], vocab: GeneVocab) -> Self:
        """Make a tokenizer of what :meth:`to_dict` gave; a file of medians is not read again.

        Raises
        ------
        DataError
            If the state is damaged, or of another vocabulary.
        """
        config = cls._config_from(data)
        medians = GeneMedians.from_dict(data.get("medians"), vocab)
        cls._check_vocab(data, vocab)
        return cls(config, vocab, medians=medians)

    def _encoder(self, tokens_of_columns: np.ndarray) -> _RankEncoder:
        return _RankEncoder(
            tokens_of_columns=tokens_of_columns,
            panel=measured_tokens(tokens_of_columns),
            repeats=has_repeats(tokens_of_columns),
            medians=self._fitted().divisors(),
            max_genes=self.config.max_genes,
            first=[self.vocab.cls_id] if self.config.add_cls else [],
        )

    def _fitted(self) -> GeneMedians:
        if self.medians is None:
            msg = (
                f"the medians of tokenizer '{self.strategy}' are not fitted; scan the training cells with its visitor, "
                "or set tokenizer.medians to none or to a file of medians."
            )
            raise ConfigError(msg)
        return self.medians

    def _describe_medians(self) -> str:
        if self.medians is None:
            return "medians not fitted"
        if self.medians.method == "none":
            return "no medians"
        known, absent = self.medians.num_genes, len(self.vocab.genes) - self.medians.num_genes
        if self.medians.method == "file":
            origin = f"from {Path(self.config.medians).name}"
        else:
            how = {"exact": "exact", "sketch": "at most 1 % off"}[self.medians.method]
            origin = f"fitted over {self.medians.num_cells:,} training cells ({how})"
        rest = f", 1 for {absent:,} without" if absent else ""
        return f"medians of {known:,} genes {origin}{rest}"


@dataclass(frozen=True, slots=True)
class _RankEncoder:
    """Ranks the genes of all cells of a block together."""

    tokens_of_columns: np.ndarray
    panel: np.ndarray
    repeats: bool
    medians: np.ndarray
    max_genes: int
    first: list[int]
    columns: RankColumns = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", RankColumns.of(self.tokens_of_columns, self.medians))

    def encode(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        found = None if self.repeats else self._compiled(block)
        if found is None:
            return self._in_numpy(block, keys)
        panel_index = np.zeros(len(block), dtype=np.int64)
        rest = Measured((self.panel,), panel_index, found.cut_offsets, found.cut_ids)
        return TokenBlock(found.offsets, found.ids, found.values, block.positions, keys, measured=rest)

    def _compiled(self, block: CellBlock) -> Ranked | None:
        room = self.max_genes - len(self.first)
        return rank_cells(block, self.columns, room=room, first=self.first, scale=TARGET_SUM)

    def _in_numpy(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        if len(block) > _CELLS_AT_ONCE:
            starts = range(0, len(block), _CELLS_AT_ONCE)
            rows = [np.arange(start, min(start + _CELLS_AT_ONCE, len(block))) for start in starts]
            return TokenBlock.concatenate([self._in_numpy(block.select(part), keys[part]) for part in rows])
        entries = expressed_entries(block, self.tokens_of_columns, repeats=self.repeats)
        order, lengths = self._ranked(entries, len(block))
        room = self.max_genes - len(self.first)
        ranks = np.arange(len(order)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        order = order[ranks < room]
        lengths = np.minimum(lengths, room) + len(self.first)

        cells = entries.cells[order]
        slots = np.arange(len(order)) + len(self.first) * (cells + 1)
        ids = np.full(int(lengths.sum()), self.first[0] if self.first else 0, dtype=np.int32)
        ids[slots] = entries.tokens[order]
        values = np.zeros(len(ids), dtype=np.float32)
        values[slots] = np.log1p(entries.values[order] / block.totals()[cells] * TARGET_SUM)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        is_kept = np.zeros(len(entries.cells), dtype=bool)
        is_kept[order] = True
        rest = measured(self.panel, entries, is_kept, len(block))
        return TokenBlock(offsets, ids, values, block.positions, keys, measured=rest)

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
