"""Settings of the transformer encoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scmodelforge.models.config import TransformerConfig

__all__ = ["TransformerEncoderConfig"]


class TransformerEncoderConfig(TransformerConfig):
    """Settings of the transformer encoder."""

    positions: Literal["learned", "rotary", "none"] = "learned"
    """A learned vector for each position, attention that depends on the distance of tokens, or no positions."""
    tied_head: bool = False
    """Score genes by the vectors of the gene embedding instead of weights of the head's own."""
    head_activation: str = "gelu"
    """Activation of the head that predicts genes: ``gelu``, ``relu`` or ``silu``."""
    value_loss: Literal["squared_error", "zero_truncated_poisson"] = "squared_error"
    """What ``pretraining_task: masked_value_prediction`` learns by: the error of values, or how likely counts above
    zero are under a Poisson distribution of the predicted rate, which needs ``tokenizer.value_transform: counts``."""
    pooled_tokens: Literal["all", "genes"] = "all"
    """What ``pooling: mean`` averages over where cells are embedded: all tokens, or ``genes`` alone, without ``<cls>``
    and ``<eos>``, as published Geneformer embeddings do."""
    left_out_layers: int = Field(0, ge=0)
    """Layers at the end that are not passed where cells are embedded; 1 in published Geneformer embeddings."""

    @property
    def unread_settings(self) -> dict[str, str]:
        """Settings that the others leave without effect, and why."""
        is_unread = self.pooled_tokens != "all" and self.pooling != "mean"
        return {"pooled_tokens": "without model.pooling 'mean'"} if is_unread else {}
