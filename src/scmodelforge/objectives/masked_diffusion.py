"""Masked diffusion: any share of a cell's genes is hidden, from almost none to all, and asked for.

Absorbing discrete diffusion (Austin et al. 2021, arXiv:2107.03006) with weights that make the loss of the genes an
upper bound of their negative log-likelihood, but for the shares below e that are never drawn (Sahoo et al. 2024,
arXiv:2406.07524; Shi et al. 2024, arXiv:2406.04329), on genes and their values as ScDiVa proposes (arXiv:2602.03477).
The weights of that paper are not known; these are the standard ones. For each cell t ~ U(e, 1) is drawn and each of its
K genes hidden with probability t, and a hidden gene counts 1 / (t K); the loss is a mean over cells.

There t is spread evenly over the cells of a batch. Here it follows from the cell's key alone, so that a cell is hidden
alike in any batch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.stats import binom

from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.data.draws import uniforms
from scmodelforge.data.measured import row_offsets
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.objectives.base import register_objective
from scmodelforge.objectives.collate import scatter, with_targets
from scmodelforge.objectives.hiding import hiding_draws

__all__ = ["MaskedDiffusion"]


@register_objective("masked_diffusion")
class MaskedDiffusion:
    """Hide a share of the genes of each cell that is drawn for it, and ask for them and their values.

    Draws are keyed by cell and gene. The model must not read where a hidden gene stands: genes that come in the order
    of their ids stay in it.

    Parameters
    ----------
    vocab
        The tokens.
    tokenizer_config
        Not used.
    model_config
        Settings of the model: ``least_masked``, the e above, and ``least_depth``. With one below 1 the counts of a
        cell are thinned to a share r of them first, log r ~ U(log least_depth, 0), and genes left without a count are
        not expressed.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({"input_ids", "values"})
    loss_terms: ClassVar[tuple[str, ...]] = ("hidden_gene", "hidden_value")
    reads_masking: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, vocab: GeneVocab, tokenizer_config: TokenizerConfig, model_config: ModelConfig) -> None:
        settings: Any = model_config
        self.least_masked = float(getattr(settings, "least_masked", 0.02))
        self.least_depth = float(getattr(settings, "least_depth", 1.0))
        self._pad_id, self._mask_id = vocab.pad_id, vocab.mask_id
        self._special_ids = np.array(sorted(vocab.special_ids))

    def __call__(self, tokens: TokenBlock) -> Batch:
        """Return the batch of some cells.

        Returns
        -------
        What :func:`~scmodelforge.objectives.collate.with_targets` gives, and ``loss_weights``: what each hidden gene
        counts, 1 / (t K), shape (B, S), float32, 0 elsewhere. Targets are counted by cells. The floor of the genes is
        that of a model that knows which are hidden, but not their order: log m for each of m.
        """
        if self.least_depth < 1:
            tokens = self._thinned(tokens)
        cells = np.repeat(np.arange(len(tokens)), tokens.lengths)
        is_gene = ~np.isin(tokens.ids, self._special_ids)
        shares = self.least_masked + (1 - self.least_masked) * uniforms(tokens.keys, "share hidden")
        is_target = is_gene & (hiding_draws(tokens) < shares[cells])
        shown = np.where(is_target, np.int32(self._mask_id), tokens.ids)
        batch = with_targets(tokens, shown, is_target, pad_id=self._pad_id, term="hidden_gene")
        weights = 1 / (shares * np.maximum(1, np.bincount(cells[is_gene], minlength=len(tokens))))
        shape = (len(tokens), batch["input_ids"].shape[1])
        own = weights[cells[is_target]].astype(np.float32)
        batch["loss_weights"] = scatter(own, batch["target_index"], shape, fill=0, dtype=torch.float32)
        batch["num_targets"] = {"hidden_gene": len(tokens), "hidden_value": len(tokens)}
        if len(tokens):
            hidden = np.bincount(cells[is_target], minlength=len(tokens))
            batch["floors"] = {"hidden_gene": float(np.mean(weights * hidden * np.log(np.maximum(1, hidden))))}
        return batch

    def _thinned(self, tokens: TokenBlock) -> TokenBlock:
        """Return the cells as if fewer transcripts had been counted: each is kept with the cell's probability."""
        cells = np.repeat(np.arange(len(tokens)), tokens.lengths)
        is_gene = ~np.isin(tokens.ids, self._special_ids)
        depth = np.exp(np.log(self.least_depth) * uniforms(tokens.keys, "depth"))
        draws = uniforms(tokens.keys[cells], "thinning", tokens.ids)
        left = np.where(is_gene, binom.ppf(draws, np.rint(tokens.values), depth[cells]), tokens.values)
        kept = np.flatnonzero(~is_gene | (left > 0))
        return replace(
            tokens,
            offsets=row_offsets(np.bincount(cells[kept], minlength=len(tokens))),
            ids=tokens.ids[kept],
            values=left[kept].astype(np.float32),
            bin_ids=None if tokens.bin_ids is None else tokens.bin_ids[kept],
        )
