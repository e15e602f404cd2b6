"""Masked gene prediction: a model is asked which genes were hidden from it.

Devlin et al. 2019, doi:10.18653/v1/N19-1423, on genes as Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9. Each
gene becomes a target with probability ``mask_ratio``; most targets are shown as ``<mask>``, some as another gene and
some as themselves; with ``masking.mode: span`` targets are stretches of genes of similar expression. Where we differ
from the latter: special tokens are neither hidden nor used as replacements, a replacement is never the gene itself, and
at all targets the expression value and bin are hidden as well.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.data.draws import integers, uniforms
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.objectives.base import register_objective
from scmodelforge.objectives.collate import with_targets
from scmodelforge.objectives.hiding import hidden_genes
from scmodelforge.objectives.order import in_random_order

__all__ = ["MaskedGenePrediction"]


@register_objective("masked_gene_prediction")
class MaskedGenePrediction:
    """Hide genes and ask which they were.

    Draws are keyed by cell and gene: a gene of a cell is hidden or not whatever else is in the batch and in whatever
    order the genes stand.

    Parameters
    ----------
    vocab
        The tokens.
    tokenizer_config
        Settings with those of masking.
    model_config
        Not used.

    Raises
    ------
    ConfigError
        If genes are to stay visible (``masking.mode: value``).
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({"input_ids"})
    loss_terms: ClassVar[tuple[str, ...]] = ("masked_gene",)
    masking_modes: ClassVar[tuple[str, ...]] = ("gene", "span")

    def __init__(self, *, vocab: GeneVocab, tokenizer_config: TokenizerConfig, model_config: ModelConfig) -> None:
        self.masking = tokenizer_config.masking
        if self.masking.mode not in self.masking_modes:
            msg = (
                f"tokenizer.masking.mode '{self.masking.mode}' leaves genes visible, but {self.name} asks which gene "
                f"was hidden; choose one of: {', '.join(self.masking_modes)}."
            )
            raise ConfigError(msg)
        self._pad_id, self._mask_id = vocab.pad_id, vocab.mask_id
        is_special = np.isin(np.arange(len(vocab)), list(vocab.special_ids))
        self._genes = np.flatnonzero(~is_special)
        self._gene_number = np.where(is_special, -1, np.cumsum(~is_special) - 1)  # place of each token in _genes

    def __call__(self, tokens: TokenBlock) -> Batch:
        """Return the batch of some cells.

        Returns
        -------
        What :func:`~scmodelforge.objectives.collate.pad` gives, with targets hidden in ``input_ids``, ``values`` and
        ``bin_ids``, and ``labels``, ``targets``, ``masked_positions``, ``target_index`` and ``num_targets``.
        ``gene_ids`` keeps the true genes; models that predict genes must not read it. Genes that come in the order of
        their ids are put into a random one first: the neighbours of a hidden gene would tell its id.
        """
        if tokens.is_set:
            tokens = in_random_order(tokens, self._gene_number[tokens.ids] < 0)
        keys = np.repeat(tokens.keys, tokens.lengths)
        is_target = hidden_genes(tokens, self._gene_number[tokens.ids] >= 0, self.masking)
        where = np.flatnonzero(is_target)
        shown = tokens.ids.copy()
        shown[where] = self._shown(tokens.ids[where], keys[where])
        return with_targets(tokens, shown, is_target, pad_id=self._pad_id, term="masked_gene")

    def _shown(self, ids: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Return what stands in the place of each target, shape (M,)."""
        draw = uniforms(keys, "replacement", ids)
        random_limit = self.masking.mask_token_prob + self.masking.random_token_prob
        num_genes = len(self._genes)
        steps = 1 + integers(keys, "random gene", ids, num_genes - 1)  # from the true gene on to another one
        others = self._genes[(self._gene_number[ids] + steps) % num_genes]
        return np.where(draw < self.masking.mask_token_prob, self._mask_id, np.where(draw < random_limit, others, ids))
