"""Reconstruction: a model sees whole cells and gives them back."""

from __future__ import annotations

from typing import ClassVar

import torch

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.objectives.base import register_objective
from scmodelforge.objectives.collate import pad

__all__ = ["Reconstruction"]


@register_objective("reconstruction")
class Reconstruction:
    """Hide nothing. What is asked for is what stands in the batch.

    It has no loss term of its own: the model's settings name them (``counted_terms``), and the run counts them.

    Parameters
    ----------
    vocab
        The tokens.
    tokenizer_config
        Settings of the tokenizer: ``max_genes``.
    model_config
        Not used.

    Raises
    ------
    ConfigError
        If a cell that expresses every gene would be cut: a model would learn that what was cut is not expressed.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({"input_ids", "values"})
    loss_terms: ClassVar[tuple[str, ...]] = ()
    reads_masking: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, vocab: GeneVocab, tokenizer_config: TokenizerConfig, model_config: ModelConfig) -> None:
        needed = len(vocab.genes) + 1  # <cls>
        if tokenizer_config.max_genes < needed:
            msg = (
                f"tokenizer.max_genes is {tokenizer_config.max_genes}, but cells are to be reconstructed whole and the "
                f"vocabulary has {len(vocab.genes)} genes; set it to {needed} or more (what is not expressed costs "
                "nothing), or choose fewer genes by data.preprocessing.hvg_selection."
            )
            raise ConfigError(msg)
        self._pad_id = vocab.pad_id
        self._special_ids = torch.tensor(sorted(vocab.special_ids))

    def __call__(self, tokens: TokenBlock) -> Batch:
        """Return the batch of some cells.

        Returns
        -------
        What :func:`~scmodelforge.objectives.collate.pad` gives, and ``labels``: each gene itself, ``IGNORE_INDEX`` at
        special tokens and padding. ``num_targets`` is empty.
        """
        batch = pad(tokens, pad_id=self._pad_id)
        ids = batch["input_ids"]
        batch["labels"] = ids.masked_fill(torch.isin(ids, self._special_ids), IGNORE_INDEX)
        batch["num_targets"] = {}
        return batch
