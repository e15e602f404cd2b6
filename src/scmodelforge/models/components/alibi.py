"""Attention that fades with distance: a bias of scores that is linear in how far query and key are apart.

Press, Smith & Lewis 2022 (ALiBi, arXiv:2108.12409), here without direction: keys on either side fade alike.
"""

from __future__ import annotations

import torch

__all__ = ["alibi_bias", "alibi_slopes"]


def alibi_slopes(num_heads: int) -> torch.Tensor:
    """Return how fast each head fades, shape (heads,): 2^(-8k/heads) for k = 1, ..., heads."""
    return 2.0 ** (-8.0 * torch.arange(1, num_heads + 1) / num_heads)


def alibi_bias(num_heads: int, num_tokens: int, *, free_queries: int = 0, free_keys: int = 0) -> torch.Tensor:
    """Return what is added to the scores: minus slope times the distance of positions.

    Parameters
    ----------
    num_heads
        Number of heads.
    num_tokens
        Tokens with a position, S.
    free_queries, free_keys
        Tokens without one before them, such as CLS: their rows and columns are 0.

    Returns
    -------
    Shape (1, heads, free_queries + S, free_keys + S), a mask for attention.
    """
    at = torch.arange(num_tokens, dtype=torch.float32)
    distance = torch.zeros(free_queries + num_tokens, free_keys + num_tokens)
    distance[free_queries:, free_keys:] = (at[:, None] - at[None, :]).abs()
    return -alibi_slopes(num_heads)[None, :, None, None] * distance
