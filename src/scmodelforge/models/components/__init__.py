"""Building blocks of models."""

from __future__ import annotations

from scmodelforge.models.components.attention import KeyValueCache, MultiHeadAttention, generate_causal_mask
from scmodelforge.models.components.blocks import get_activation
from scmodelforge.models.components.embeddings import GeneExpressionEmbedding, blank_padding
from scmodelforge.models.components.given import apply_embedding_spec
from scmodelforge.models.components.heads import (
    BinPredictionHead,
    ExpressionPredictionHead,
    MaskedGenePredictionHead,
)
from scmodelforge.models.components.losses import (
    gathered_cross_entropy,
    masked_cross_entropy,
    masked_squared_error,
    zero_truncated_poisson_loss,
)
from scmodelforge.models.components.pooling import cls_pool, get_pooling, mean_pool, mean_seen
from scmodelforge.models.components.transformer import TransformerBlock, TransformerStack
from scmodelforge.models.components.values import AutoBinEmbedding, biased_attention

__all__ = [
    "AutoBinEmbedding",
    "BinPredictionHead",
    "ExpressionPredictionHead",
    "GeneExpressionEmbedding",
    "KeyValueCache",
    "MaskedGenePredictionHead",
    "MultiHeadAttention",
    "TransformerBlock",
    "TransformerStack",
    "apply_embedding_spec",
    "biased_attention",
    "blank_padding",
    "cls_pool",
    "gathered_cross_entropy",
    "generate_causal_mask",
    "get_activation",
    "get_pooling",
    "masked_cross_entropy",
    "masked_squared_error",
    "mean_pool",
    "mean_seen",
    "zero_truncated_poisson_loss",
]
