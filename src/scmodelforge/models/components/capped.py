"""Attention whose scores are written down: for what no fused kernel does to them.

Scores are capped softly, as c tanh(s / c), or what counts add to them is left out where a token attends to itself:
TranscriptFormer (Pearce et al. 2025, doi:10.1101/2025.04.25.650731).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["capped_attention", "capped_weights"]


def capped_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    scale: float,
    key_bias: torch.Tensor | None = None,
    soft_cap: float | None = None,
    bias_itself: bool = True,
) -> torch.Tensor:
    """Attend, with a tensor of scores.

    Parameters
    ----------
    query, key, value, attn_mask, dropout_p, scale
        As of ``scaled_dot_product_attention``; query and key are the same tokens, S of them.
    key_bias
        What is added to the scaled scores of each key, shape (B, S).
    soft_cap
        Scores, the bias included, get no higher than this and no lower than its negative; ``None`` leaves them.
    bias_itself
        Whether the bias of a token counts where it attends to itself.

    Returns
    -------
    Shape (B, heads, S, D).
    """
    weights = capped_weights(
        query, key, attn_mask=attn_mask, scale=scale, key_bias=key_bias, soft_cap=soft_cap, bias_itself=bias_itself
    )
    return F.dropout(weights, dropout_p) @ value


def capped_weights(
    query: torch.Tensor,
    key: torch.Tensor,
    *,
    attn_mask: torch.Tensor | None = None,
    scale: float,
    key_bias: torch.Tensor | None = None,
    soft_cap: float | None = None,
    bias_itself: bool = True,
) -> torch.Tensor:
    """Return the share of each key in each query, shape (B, heads, S, S); parameters as of :func:`capped_attention`."""
    scores = (query @ key.transpose(-2, -1)).float() * scale  # three digits of bf16 would not tell large scores apart
    if key_bias is not None:
        added = key_bias.float()[:, None, None, :]
        if not bias_itself:
            itself = torch.eye(key.shape[-2], dtype=torch.bool, device=key.device)
            added = added.expand(-1, -1, key.shape[-2], -1).masked_fill(itself, 0.0)
        scores = scores + added
    if soft_cap is not None:
        scores = soft_cap * torch.tanh(scores / soft_cap)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(dim=-1).to(query.dtype)
