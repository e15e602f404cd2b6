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
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from scmodelforge.config.schema import TokenizerConfig
from scmodelforge.data.protocols import BoundEncoder
from scmodelforge.data.types import EmbeddingSpec, Panel
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers._value_encoder import ValueEncoder, ValueTransform
from scmodelforge.tokenizers.base import BaseTokenizer
from scmodelforge.tokenizers.entries import one_cell
from scmodelforge.tokenizers.layout import as_one_cell
from scmodelforge.tokenizers.registry import register_tokenizer

__all__ = ["ContinuousProjectionConfig", "ContinuousProjectionTokenizer"]


class ContinuousProjectionConfig(TokenizerConfig):
    """Settings of the continuous projection tokenizer."""

    value_transform: ValueTransform = "log1p_cp10k"
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
        self.is_set = self.config.order == "token"

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
        encoder = self._encoder(self.lookup(block.panel.gene_ids))
        return as_one_cell(encoder.encode(block, np.full(1, key, dtype=np.uint64)))

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

    def _encoder(self, tokens_of_columns: np.ndarray) -> ValueEncoder:
        config = self.config
        return ValueEncoder(
            tokens_of_columns=tokens_of_columns,
            vocab_size=len(self.vocab),
            value_transform=config.value_transform,
            clip=config.clip,
            descends=config.order == "expression",
            selection=config.selection,
            max_genes=config.max_genes,
            first=[self.vocab.cls_id] if config.add_cls else [],
        )
