"""Two views of a cell: all of its genes, and some of them."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
import torch

from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.data.draws import uniforms
from scmodelforge.data.measured import row_offsets
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.objectives.base import register_objective
from scmodelforge.objectives.collate import pad

__all__ = ["SECOND", "TwoViews", "some_genes"]

#: What the keys of the second view begin with.
SECOND = "second_"


@register_objective("two_views")
class TwoViews:
    """Hide nothing, and show each cell once more with some of its genes.

    The second view is in the batch under the same keys behind ``second_``. A head says which share of the genes it has
    (``model.head.kept_genes``); where that is ``None`` there is none.

    Parameters
    ----------
    vocab
        The tokens.
    tokenizer_config
        Not used.
    model_config
        Settings of the model, with those of its head.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({"input_ids"})
    loss_terms: ClassVar[tuple[str, ...]] = ()
    reads_masking: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, vocab: GeneVocab, tokenizer_config: TokenizerConfig, model_config: ModelConfig) -> None:
        self._pad_id = vocab.pad_id
        self._special = np.array(sorted(vocab.special_ids))
        self._kept: float | None = getattr(getattr(model_config, "head", None), "kept_genes", None)

    def __call__(self, tokens: TokenBlock) -> Batch:
        """Return the batch of some cells, without targets."""
        batch = cast("dict[str, Any]", pad(tokens, pad_id=self._pad_id))
        if self._kept is not None:
            second = pad(some_genes(tokens, self._special, self._kept), pad_id=self._pad_id)
            batch |= {SECOND + name: value for name, value in second.items() if isinstance(value, torch.Tensor)}
        return cast("Batch", {**batch, "num_targets": {}})


def some_genes(tokens: TokenBlock, special: np.ndarray, kept: float) -> TokenBlock:
    """Return cells with some of their genes, in the order they had; at least one gene of a cell that has any.

    Draws are keyed by cell and gene, so that a gene is kept or not whatever else is in the batch.

    Parameters
    ----------
    tokens
        The cells.
    special
        Tokens that are always kept.
    kept
        Probability of a gene to be kept.
    """
    draws = uniforms(np.repeat(tokens.keys, tokens.lengths), "second view", tokens.ids)
    is_special = np.isin(tokens.ids, special)
    draws[is_special] = 2.0
    lowest = np.full(len(tokens), np.inf)
    cell_of = np.repeat(np.arange(len(tokens)), tokens.lengths)
    np.minimum.at(lowest, cell_of, draws)
    is_kept = is_special | (draws < kept) | (draws == lowest[cell_of])
    offsets = row_offsets(np.bincount(cell_of[is_kept], minlength=len(tokens)))
    return TokenBlock(
        offsets=offsets,
        ids=tokens.ids[is_kept],
        values=tokens.values[is_kept],
        cell_index=tokens.cell_index,
        keys=tokens.keys,
        bin_ids=None if tokens.bin_ids is None else tokens.bin_ids[is_kept],
        pad_value=tokens.pad_value,
        mask_value=tokens.mask_value,
        is_set=tokens.is_set,
    )
