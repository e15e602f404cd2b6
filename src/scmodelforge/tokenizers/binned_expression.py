"""Binned expression: the expressed genes of a cell, each with a bin of its expression.

Cui et al. 2024, doi:10.1038/s41592-024-02201-0 (scGPT). The edges of the K - 1 bins above zero are quantiles of the
cell's values above zero, at levels evenly spread over 0 to 1. A value equal to several edges may go into any of their
bins (:attr:`BinnedExpressionConfig.ties`); counts are small numbers, so that is the rule and not the exception. Where
we differ:

- The middle bin is the default, so that a cell has one representation; scGPT draws one, which ``ties: random`` does.
- The value shown for a bin is its number over K - 1, not its number, which would drown the gene's embedding.
- Equal cells give equal tokens whatever the order of genes in the file: tokens ascend by id, and of cells with more
  genes than fit a random part is taken by a hash of cell and gene.
- ``method: fixed`` (edges that all cells share) and ``method: uniform`` (bins of equal width up to the largest value of
  the cell) are not scGPT's.

:data:`SCGPT` are the settings of the published models. Neither library size nor logarithms change a quantile bin, so
normalising before is not needed. They do change bins between fixed edges, which need normalised values to compare
cells of different depth, and logarithms change bins of equal width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import numpy as np

from scmodelforge._errors import ConfigError, nearest
from scmodelforge.config.schema import TokenizerConfig
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.protocols import BoundEncoder
from scmodelforge.data.types import CellBlock, Panel
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers._bin_encoder import BinEncoder
from scmodelforge.tokenizers.base import BaseTokenizer, FittingVisitor
from scmodelforge.tokenizers.bin_centres import BinCentres, BinFit
from scmodelforge.tokenizers.bin_edges import EdgeFit, edges_from
from scmodelforge.tokenizers.binned_settings import SCGPT, BinnedExpressionConfig
from scmodelforge.tokenizers.entries import Entries, one_cell
from scmodelforge.tokenizers.layout import as_one_cell
from scmodelforge.tokenizers.registry import register_tokenizer

__all__ = ["SCGPT", "BinnedExpressionConfig", "BinnedExpressionTokenizer"]

_log = logging.getLogger(__name__)


@register_tokenizer("binned_expression")
class BinnedExpressionTokenizer(BaseTokenizer):
    """Expressed genes with the bin of their value.

    Parameters
    ----------
    config
        Settings.
    vocab
        The genes that have tokens.
    centres
        What bins mean in expression, fitted before; needed to turn generated bins into values.
    edges
        Edges that all cells share, fitted before: where each bin above zero begins, shape (K - 1,), float64.

    Raises
    ------
    ConfigError
        If the settings do not fit, a gene of ``always_keep`` is not in the vocabulary, or none of ``hvg_genes`` is.
    """

    config_class = BinnedExpressionConfig
    expects = "any"
    provides = frozenset({"input_ids", "values", "bin_ids"})
    is_set = True

    def __init__(
        self,
        config: TokenizerConfig,
        vocab: GeneVocab,
        *,
        centres: BinCentres | None = None,
        edges: np.ndarray | None = None,
    ) -> None:
        super().__init__(config, vocab)
        self.normalizes = self.config.normalizes
        self.pad_value, self.mask_value = self.config.pad_value, self.config.mask_value
        self.centres = centres
        self.edges = edges if self.config.edges is None else np.array([0.0, *self.config.edges])
        self._classes = self._classes_of_genes()

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
        ConfigError
            If edges are not fitted.
        """
        block = one_cell(expression, gene_ids)
        encoder = self._encoder(self.lookup(block.panel.gene_ids))
        return as_one_cell(encoder.encode(block, np.full(1, key, dtype=np.uint64)))

    def bind(self, panel: Panel) -> BoundEncoder:
        """Return an encoder for blocks of cells of one file.

        Raises
        ------
        ConfigError
            If edges are not fitted.
        """
        return self._encoder(self.vocab.map_panel(panel))

    def visitor(self, is_train: Callable[[np.ndarray], np.ndarray]) -> FittingVisitor:
        """Return what fits the centres of the bins, and edges unless they are given, to the training cells."""

        def expressed(block: CellBlock) -> Entries:
            return self._encoder(self.vocab.map_panel(block.panel), is_fitted=False).expressed(block)

        def bins_of(entries: Entries, block: CellBlock) -> np.ndarray:
            return self._encoder(self.vocab.map_panel(block.panel)).bins_of(entries, cell_keys(0, block.positions))

        if self.config.method == "fixed" and self.config.edges is None:
            return EdgeFit(expressed, self.config.n_bins, self.config.ties, is_train, self._take)
        return BinFit(expressed, bins_of, self.config.n_bins, is_train, lambda found: self._take(self.edges, found))

    def bin_values(self) -> np.ndarray:
        """Return the value shown for each bin, shape (K,), float32."""
        numbers = np.arange(self.config.n_bins, dtype=np.float32)
        return numbers if self.config.value_scale == "index" else numbers / np.float32(self.config.n_bins - 1)

    def describe(self) -> str:
        """Return one line on bins and length."""
        how = {"quantile": "quantile bins a cell", "uniform": "bins of equal width a cell"}.get(self.config.method)
        if how is None:
            how = f"bins between {'fitted' if self.config.edges is None else 'given'} edges"
        return f"{super().describe()}; {self.config.n_bins} {how}, ties: {self.config.ties}"

    def to_dict(self) -> dict[str, Any]:
        """Return settings, the digest of the vocabulary, centres, and edges that were fitted."""
        centres = None if self.centres is None else self.centres.to_dict()
        edges = None if self.edges is None or self.config.edges is not None else self.edges.tolist()
        return {**super().to_dict(), "centres": centres, "edges": edges}

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
        centres = None if state is None else BinCentres.from_dict(state, config.n_bins)
        return cls(config, vocab, centres=centres, edges=edges_from(data.get("edges"), config.n_bins))

    def _take(self, edges: np.ndarray | None, centres: BinCentres) -> None:
        self.edges, self.centres = edges, centres

    def _encoder(self, tokens_of_columns: np.ndarray, *, is_fitted: bool = True) -> BinEncoder:
        config = self.config
        if is_fitted and config.method == "fixed" and self.edges is None:
            msg = (
                f"the edges of tokenizer '{self.strategy}' are not fitted; scan the training cells with its visitor, "
                "or set tokenizer.edges."
            )
            raise ConfigError(msg)
        return BinEncoder(
            tokens_of_columns=tokens_of_columns,
            method=config.method,
            edges=self.edges,
            n_bins=config.n_bins,
            ties=config.ties,
            selection=config.selection,
            classes=self._classes,
            shown=self.bin_values(),
            max_genes=config.max_genes,
            first=[self.vocab.cls_id] if config.add_cls else [],
            cls_value=config.cls_value,
            pad_value=config.pad_value,
            mask_value=config.mask_value,
            include_zeros=config.include_zeros,
        )

    def _classes_of_genes(self) -> np.ndarray:
        """Return the class of each token, shape (V,), uint8: 0 is always kept, 1 before others."""
        classes = np.full(len(self.vocab), 2, dtype=np.uint8)
        names = self.config.hvg_genes
        known = self._tokens_of(names)
        if names and (known < 0).all():
            msg = (
                f"tokenizer.hvg_genes: none of the {len(names):,} genes is in gene_vocab '{self.vocab.name}'; "
                "use its kind of gene ids."
            )
            raise ConfigError(msg)
        if (known < 0).any():
            absent = np.count_nonzero(known < 0)
            _log.warning(f"tokenizer.hvg_genes: {absent:,} of {len(names):,} genes are not in the vocabulary.")
        classes[known[known >= 0]] = 1
        kept = self._tokens_of(self.config.always_keep)
        for name, token in zip(self.config.always_keep, kept.tolist(), strict=True):
            if token < 0:
                msg = (
                    f"tokenizer.always_keep: gene '{name}' is not in gene_vocab '{self.vocab.name}', so it has no "
                    f"token.{nearest(name, self.vocab.genes)}"
                )
                raise ConfigError(msg)
        classes[kept] = 0
        return classes

    def _tokens_of(self, names: list[str]) -> np.ndarray:
        return self.vocab.map(names) if names else np.zeros(0, dtype=np.int32)
