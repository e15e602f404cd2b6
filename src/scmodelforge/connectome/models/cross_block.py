"""A transformer block whose queries attend to the tokens of something else."""

from __future__ import annotations

import torch
from torch import nn

from scmodelforge.models.components.attention import MultiHeadAttention
from scmodelforge.models.components.transformer import TransformerBlock

__all__ = ["CrossAttentionBlock", "block_options"]

_EPS = 1e-5


def block_options(d_model: int, dropout: float) -> dict[str, object]:
    """Return how blocks of all models of pairs are made: norms after each branch, ReLU, four times the width inside."""
    return {
        "ffn_dim": 4 * d_model,
        "dropout": dropout,
        "attention_dropout": 0.0,
        "activation": "relu",
        "layer_norm_eps": _EPS,
        "norm_placement": "post",
    }


class CrossAttentionBlock(nn.Module):
    """Attention of queries to one another, if asked for, then to other tokens, and a feed-forward layer.

    Parameters
    ----------
    d_model, nhead
        Width and heads.
    dropout
        Dropout on what each branch adds.
    query_self_attention
        Whether there is the first.
    """

    def __init__(self, d_model: int, nhead: int, *, dropout: float, query_self_attention: bool) -> None:
        super().__init__()
        self.cross = TransformerBlock(d_model, nhead, **block_options(d_model, dropout))  # type: ignore[arg-type]
        self.own = MultiHeadAttention(d_model, nhead) if query_self_attention else None
        self.own_norm = nn.LayerNorm(d_model, eps=_EPS) if query_self_attention else None
        self.dropout = nn.Dropout(dropout)

    def keys_values(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the heads of keys and values of tokens, (U, N, H) to twice (U, heads, N, H / heads)."""
        return self.cross.attention.keys_values(tokens)

    def forward(
        self,
        queries: torch.Tensor,
        context: tuple[torch.Tensor, torch.Tensor],
        *,
        bias: torch.Tensor | None = None,
        own_bias: torch.Tensor | None = None,
        maps: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Transform queries, shape (B, Q, H).

        Parameters
        ----------
        queries
            Hidden states.
        context
            Keys and values of the other tokens, each shape (B, heads, N, H / heads).
        bias, own_bias
            Added to the scores of the other tokens and of the queries themselves.
        maps
            Gets the share of each other token in each query.
        """
        if self.own is not None and self.own_norm is not None:
            queries = self.own_norm(queries + self.dropout(self.own(queries, mask=own_bias)))
        return self.cross(queries, bias, context=context, maps=maps)
