"""Generative value prediction: of a part of a cell's genes a model is told the values, of the others it must give them.

Cui et al. 2024, doi:10.1038/s41592-024-02201-0 (scGPT). A quarter, half or three quarters of a cell's expressed genes
are to be generated: their ids are shown, their values are not, and all are predicted at once from the known ones. Where
we differ: each cell has its own share, drawn by its key, where scGPT draws one for a batch; and no gene is left out to
give both parts a fixed length.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch

from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.data.draws import integers, mix
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.objectives.base import register_objective
from scmodelforge.objectives.collate import with_targets

__all__ = ["GenerativeValuePrediction"]

_QUARTERS = 3  # 1, 2 or 3 quarters are generated


@register_objective("generative_value_prediction")
class GenerativeValuePrediction:
    """Divide each cell into known genes and genes whose values are to be generated.

    Draws are keyed by cell and gene: a cell gets the same row whatever else is in the batch and in whatever order its
    genes came. The special tokens a cell begins with are known and stay at its beginning.

    Parameters
    ----------
    vocab
        The tokens.
    tokenizer_config, model_config
        Not used.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({"input_ids", "values"})
    loss_terms: ClassVar[tuple[str, ...]] = ("generative_value",)
    reads_masking: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, vocab: GeneVocab, tokenizer_config: TokenizerConfig, model_config: ModelConfig) -> None:
        self._pad_id = vocab.pad_id
        self._special_ids = np.array(sorted(vocab.special_ids))

    def __call__(self, tokens: TokenBlock) -> Batch:
        """Return the batch of some cells.

        Returns
        -------
        What :func:`~scmodelforge.objectives.collate.pad` gives, the genes to generate after the known ones in random
        order and with their values and bins hidden, and ``prefix_len``, the number of known tokens, ``labels``,
        ``targets``, ``masked_positions``, ``target_index`` and ``num_targets``.
        """
        cells = np.repeat(np.arange(len(tokens)), tokens.lengths)
        is_gene = ~np.isin(tokens.ids, self._special_ids)
        num_genes = np.bincount(cells[is_gene], minlength=len(tokens))
        quarters = 1 + integers(tokens.keys, "generated share", 0, _QUARTERS)
        num_generated = quarters * num_genes // 4
        # All genes in a random order, of which the last ones are generated; special tokens before all of them.
        draws = mix("generated gene", tokens.keys[cells], tokens.ids)
        order = np.lexsort((draws, is_gene, cells))
        place = np.empty(len(cells), dtype=np.int64)
        place[order] = np.arange(len(cells)) - np.repeat(tokens.offsets[:-1], tokens.lengths)
        prefix_len = tokens.lengths - num_generated
        is_generated = place >= prefix_len[cells]
        # Known tokens keep the order in which they came.
        order = np.lexsort((np.where(is_generated, place, 0), is_generated, cells))
        bins = None if tokens.bin_ids is None else tokens.bin_ids[order]
        tokens = replace(tokens, ids=tokens.ids[order], values=tokens.values[order], bin_ids=bins)
        is_generated = is_generated[order]
        batch = with_targets(tokens, tokens.ids, is_generated, pad_id=self._pad_id, term=self.loss_terms[0])
        batch["prefix_len"] = torch.from_numpy(prefix_len.astype(np.int64))
        return batch
