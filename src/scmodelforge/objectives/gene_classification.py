"""Gene classification: a model sees whole cells and is asked for the classes of some of their genes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.objectives.base import register_objective
from scmodelforge.objectives.collate import pad

__all__ = ["GeneClassification"]


@register_objective("gene_classification")
class GeneClassification:
    """Hide nothing, and bring the class of each training gene as ``gene_classes``; no other gene has a target.

    Parameters
    ----------
    vocab
        The tokens.
    tokenizer_config
        Not used.
    model_config
        Its head has ``classes``, and ``train_genes`` with the class of each gene that is learned from.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({"input_ids", "values"})
    loss_terms: ClassVar[tuple[str, ...]] = ("gene_classes",)
    reads_masking: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, vocab: GeneVocab, tokenizer_config: TokenizerConfig, model_config: ModelConfig) -> None:
        head: Any = getattr(model_config, "head", None)
        genes: dict[str, str] = getattr(head, "train_genes", {})
        self._pad_id = vocab.pad_id
        self._classes = np.full(len(vocab), IGNORE_INDEX, dtype=np.int64)  # of each token
        if genes:
            number = {name: code for code, name in enumerate(head.classes)}
            self._classes[vocab.map(genes)] = [number[name] for name in genes.values()]

    def __call__(self, tokens: TokenBlock) -> Batch:
        """Return the batch of some cells."""
        batch = pad(tokens, pad_id=self._pad_id)
        found = np.where(batch["attention_mask"].numpy() != 0, self._classes[batch["gene_ids"].numpy()], IGNORE_INDEX)
        batch["gene_classes"] = torch.from_numpy(found)
        batch["num_targets"] = {"gene_classes": int((found != IGNORE_INDEX).sum())}
        return batch
