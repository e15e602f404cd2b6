"""Cell type annotation: a model sees whole cells and is asked for their types."""

from __future__ import annotations

from typing import ClassVar

from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.objectives.base import register_objective
from scmodelforge.objectives.collate import pad

__all__ = ["CellTypeAnnotation"]


@register_objective("cell_type_annotation")
class CellTypeAnnotation:
    """Hide nothing. What is asked for are labels of cells, which are no part of their tokens.

    The run puts them into each batch as ``cell_types`` (``data.label_column``) and counts them, for models whose
    settings name a term that is a mean over cell types (``counted_terms``).

    Parameters
    ----------
    vocab
        The tokens.
    tokenizer_config, model_config
        Not used.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({"input_ids", "values"})
    loss_terms: ClassVar[tuple[str, ...]] = ()
    reads_masking: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, vocab: GeneVocab, tokenizer_config: TokenizerConfig, model_config: ModelConfig) -> None:
        self._pad_id = vocab.pad_id

    def __call__(self, tokens: TokenBlock) -> Batch:
        """Return the batch of some cells: what :func:`~scmodelforge.objectives.collate.pad` gives, without targets."""
        batch = pad(tokens, pad_id=self._pad_id)
        batch["num_targets"] = {}
        return batch
