"""Masked value prediction: a model is asked how much hidden genes are expressed, and is told which genes they are.

He et al. 2022, arXiv:2111.06377, on genes as in scFoundation (Hao et al. 2024, doi:10.1038/s41592-024-02305-7): hidden
genes are taken from those a cell expresses, and others from those it was measured for and does not express, without
which 0 could not be learned. Where we differ: the share of the latter is relative to the former
(``model.zero_target_ratio``), and a hidden token is hidden wholly, id, value and bin, never shown as it is.

With ``masking.mode: value`` the id stays, as in scGPT (Cui et al. 2024, doi:10.1038/s41592-024-02201-0), for models
that see which genes they are asked for; value and bin are hidden, at expressed genes and others alike.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.data.draws import mix
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.objectives.base import register_objective
from scmodelforge.objectives.collate import with_targets
from scmodelforge.objectives.hiding import hidden_genes, hiding_draws
from scmodelforge.objectives.zeros import draw_zero_genes

__all__ = ["MaskedValuePrediction"]


@register_objective("masked_value_prediction")
class MaskedValuePrediction:
    """Hide genes and ask for their values.

    Draws are keyed by cell and gene. Sequences get longer by the genes without expression; where a cell has no room
    for them (``model.max_seq_len``), fewer of both kinds are asked for, and those not asked for are left out.

    Parameters
    ----------
    vocab
        The tokens.
    tokenizer_config
        Settings with those of masking. The shares of ``<mask>`` and random tokens have no meaning here.
    model_config
        Settings of the model: ``zero_target_ratio`` (by default 1), ``max_seq_len``, and ``value_loss``, of which
        ``zero_truncated_poisson`` asks for no genes without expression.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({"input_ids", "values"})
    loss_terms: ClassVar[tuple[str, ...]] = ("masked_value",)
    reads_masking: ClassVar[frozenset[str]] = frozenset({"mode", "mask_ratio", "span_length"})

    def __init__(self, *, vocab: GeneVocab, tokenizer_config: TokenizerConfig, model_config: ModelConfig) -> None:
        self.masking = tokenizer_config.masking
        truncates = getattr(model_config, "value_loss", None) == "zero_truncated_poisson"
        self._zero_ratio = 0.0 if truncates else float(getattr(model_config, "zero_target_ratio", 1.0))
        self._max_len = model_config.max_seq_len
        self._pad_id, self._vocab_size = vocab.pad_id, len(vocab)
        # Where genes stay visible no token stands for a hidden one, and some published vocabularies have none.
        self._mask_id = -1 if self.masking.mode == "value" else vocab.mask_id
        self._special_ids = np.array(sorted(vocab.special_ids))

    def __call__(self, tokens: TokenBlock) -> Batch:
        """Return the batch of some cells.

        Returns
        -------
        What :func:`~scmodelforge.objectives.collate.pad` gives, with all targets, expressed or not, after the visible
        tokens in random order and hidden in ``input_ids`` (but for ``masking.mode: value``), ``values`` and
        ``bin_ids``, and ``labels``, ``targets``, ``masked_positions``, ``target_index`` and ``num_targets``.
        ``gene_ids`` keeps the genes that are asked for.
        """
        tokens, is_target = self._with_targets(tokens)
        shown = tokens.ids
        if self.masking.mode != "value":
            shown = np.where(is_target, np.int32(self._mask_id), shown)
        return with_targets(tokens, shown, is_target, pad_id=self._pad_id, term="masked_value")

    def _with_targets(self, tokens: TokenBlock) -> tuple[TokenBlock, np.ndarray]:
        """Return the cells with genes without expression added, and which tokens are targets, shape (T,), bool."""
        cells = np.repeat(np.arange(len(tokens)), tokens.lengths)
        draws = hiding_draws(tokens)
        is_target = hidden_genes(tokens, ~np.isin(tokens.ids, self._special_ids), self.masking)
        numbers = np.bincount(cells[is_target], minlength=len(tokens))
        zeros = np.rint(numbers * self._zero_ratio).astype(np.int64)
        both = np.maximum(1, numbers + zeros)
        room = np.clip(self._max_len - (tokens.lengths - numbers), 0, both)
        asked, zeros = numbers * room // both, zeros * room // both
        is_dropped = is_target & (_rank_within(cells, np.where(is_target, draws, np.inf)) >= asked[cells])
        zero_cells, zero_ids = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32)
        if zeros.any():
            zero_cells, zero_ids = draw_zero_genes(tokens, zeros, vocab_size=self._vocab_size)
        kept = np.flatnonzero(~is_dropped)
        merged, ids = np.concatenate([cells[kept], zero_cells]), np.concatenate([tokens.ids[kept], zero_ids])
        # The place of a hidden gene would tell its rank, or that it is not expressed: they come last in random order.
        is_hidden = np.concatenate([is_target[kept], np.ones(len(zero_ids), dtype=bool)])
        places = mix("hidden place", tokens.keys[merged], ids) >> np.uint64(1)
        order = np.lexsort((np.where(is_hidden, places, 0), is_hidden, merged))

        def joined(own: np.ndarray, fill: np.ndarray) -> np.ndarray:
            return np.concatenate([own[kept], fill])[order]

        nothing = np.zeros(len(zero_ids), dtype=np.float32)
        extended = replace(
            tokens,
            offsets=np.concatenate([[0], np.cumsum(np.bincount(merged, minlength=len(tokens)))]).astype(np.int64),
            ids=joined(tokens.ids, zero_ids),
            values=joined(tokens.values, nothing),
            bin_ids=None if tokens.bin_ids is None else joined(tokens.bin_ids, nothing.astype(np.int32)),
        )
        return extended, joined(is_target, np.ones(len(zero_ids), dtype=bool))


def _rank_within(cells: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the rank of each score among those of its cell, from 0, shape (T,)."""
    order = np.lexsort((scores, cells))
    starts = np.searchsorted(cells, cells, side="left")  # cells are ascending
    ranks = np.empty(len(cells), dtype=np.int64)
    ranks[order] = np.arange(len(cells)) - starts
    return ranks
