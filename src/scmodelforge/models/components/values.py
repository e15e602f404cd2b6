"""What models do with expression values beside projecting them: mixtures of learned bins, a bias of attention."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["AutoBinEmbedding", "biased_attention", "biased_width", "count_bias", "with_key_bias"]

_MULTIPLE = 8  # widths of heads that fused kernels take


class AutoBinEmbedding(nn.Module):
    """A vector for each value: a mixture of learned bins, with weights that are a function of the value.

    a = LeakyReLU(w1 v + b1), p = softmax(W2 a + b2 + alpha a), and the embedding is p T, with a in R^K and T of shape
    (K, H): the auto-discretisation of scFoundation (Hao et al. 2024, doi:10.1038/s41592-024-02305-7). Hidden values
    and padding have vectors of their own.

    Parameters
    ----------
    hidden_dim
        Width H.
    num_bins
        Number of bins K.
    alpha
        Weight of the shortcut past the second layer.
    """

    def __init__(self, hidden_dim: int, num_bins: int = 100, *, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.to_bins = nn.Linear(1, num_bins)
        self.between_bins = nn.Linear(num_bins, num_bins)
        self.bins = nn.Embedding(num_bins, hidden_dim)
        self.hidden_vector = nn.Parameter(torch.empty(hidden_dim))
        self.padding_vector = nn.Parameter(torch.empty(hidden_dim))
        nn.init.normal_(self.hidden_vector, std=0.02)
        nn.init.normal_(self.padding_vector, std=0.02)

    def forward(
        self,
        values: torch.Tensor,
        is_hidden: torch.Tensor | None = None,
        is_padding: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Embed values.

        Parameters
        ----------
        values
            Expression values, shape (B, S).
        is_hidden, is_padding
            Where the value is hidden, and where there is none, shape (B, S), bool; ``None`` is nowhere.

        Returns
        -------
        Shape (B, S, H).
        """
        embedded = self.weights(values) @ self.bins.weight  # (B, S, H)
        if is_hidden is not None:
            embedded = torch.where(is_hidden[..., None], self.hidden_vector.to(embedded.dtype), embedded)
        if is_padding is not None:
            embedded = torch.where(is_padding[..., None], self.padding_vector.to(embedded.dtype), embedded)
        return embedded

    def weights(self, values: torch.Tensor) -> torch.Tensor:
        """Return the share of each bin in each value, shape (B, S, K)."""
        reached = F.leaky_relu(self.to_bins(values.to(self.to_bins.weight.dtype)[..., None]), 0.1)
        return (self.between_bins(reached) + self.alpha * reached).softmax(dim=-1)


def count_bias(values: torch.Tensor) -> torch.Tensor:
    """Return what counts add to the attention that their tokens get: log(1 + count), shape (B, S), float32.

    Pearce et al. 2025, doi:10.1101/2025.04.25.650731 (TranscriptFormer). There a token's own count does not count for
    its attention to itself, and scores are capped; here it counts, which is what keeps the fused kernels usable. A
    hidden count is shown as 0 and adds nothing.
    """
    return torch.log1p(values.float().clamp(min=0))


def biased_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    key_bias: torch.Tensor,
    *,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> torch.Tensor:
    """Attend with something added to all scores of a key, without a tensor of scores.

    The same as ``scaled_dot_product_attention`` with ``key_bias[:, None, None, :]`` added to the mask; but a mask of
    floats is of the size of the scores in some fused kernels and excludes others, and the bias costs a wider head only.

    Parameters
    ----------
    query, key, value
        Shapes (B, heads, S, D), of keys and values (B, heads, K, D).
    key_bias
        What is added to the scaled scores of each key, shape (B, K).
    attn_mask, dropout_p, is_causal
        As in ``torch.nn.functional.scaled_dot_product_attention``.

    Returns
    -------
    Shape (B, heads, S, D).
    """
    width = value.shape[-1]
    scale = 1 / math.sqrt(query.shape[-1])
    query, key, value = with_key_bias(query, key, value, key_bias)
    mixed = F.scaled_dot_product_attention(
        query, key, value, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal, scale=scale
    )
    return mixed[..., :width]


def biased_width(width: int) -> int:
    """Return how wide heads become by :func:`with_key_bias`: one more, rounded up to a multiple of 8."""
    return width + 1 + -(width + 1) % _MULTIPLE


def with_key_bias(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, key_bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return queries, keys and values whose scores under the scale 1 / sqrt(D) have the bias in them.

    Queries get one more component, sqrt(D), and keys the bias; both, and the values, are filled up with zeros to a
    width that fused kernels take. Shapes as in :func:`biased_attention`, with the width rounded up to a multiple of 8.
    """
    width = query.shape[-1]
    more = biased_width(width) - width - 1
    root = query.new_full((*query.shape[:-1], 1), math.sqrt(width))
    bias = key_bias.to(key.dtype)[:, None, :, None].expand(-1, key.shape[1], -1, -1)
    return (
        F.pad(torch.cat([query, root], dim=-1), (0, more)),
        F.pad(torch.cat([key, bias], dim=-1), (0, more)),
        F.pad(value, (0, 1 + more)),
    )
