"""Masks of attention: which token sees which."""

from __future__ import annotations

import torch

__all__ = ["generate_causal_mask", "merge_masks", "prefix_mask"]


def generate_causal_mask(seq_len: int, device: torch.device | None = None) -> torch.Tensor:
    """Make the mask of left-to-right attention, to be added to the scores.

    Parameters
    ----------
    seq_len
        Number of tokens S.
    device
        Where to make it.

    Returns
    -------
    Shape (S, S): row i has 0 up to column i and ``-inf`` after it.
    """
    return torch.full((seq_len, seq_len), float("-inf"), device=device).triu(diagonal=1)


def prefix_mask(seq_len: int, prefix_len: torch.Tensor | None, device: torch.device | None = None) -> torch.Tensor:
    """Make the mask of a prefix language model: the prefix is seen by all, what follows from left to right.

    Parameters
    ----------
    seq_len
        Number of tokens S.
    prefix_len
        Tokens of each cell's prefix, shape (B,). ``None`` stands for no prefix, i.e. a causal mask.
    device
        Where to make it.

    Returns
    -------
    Which query sees which key, bool, shape (1, 1, S, S) or (B, 1, S, S).
    """
    allowed = torch.ones(seq_len, seq_len, dtype=torch.bool, device=device).tril()[None, None]
    if prefix_len is None:
        return allowed
    in_prefix = torch.arange(seq_len, device=device) < prefix_len[:, None]  # (B, S)
    return allowed | in_prefix[:, None, None, :]


def merge_masks(key_mask: torch.Tensor | None, mask: torch.Tensor | None) -> torch.Tensor | None:
    """Merge a mask of tokens and a mask of pairs into one that attention takes.

    No query is left with nothing to see, since some versions of torch answer that with NaN: a cell without real
    tokens sees all its padding, and where a mask of pairs is given each token sees at least itself.

    Parameters
    ----------
    key_mask
        Tokens that may be seen, shape (B, S), bool.
    mask
        Which query may see which key: bool, or added to the scores; broadcasts to (B, heads, S, S).

    Returns
    -------
    Of the type of ``mask`` (bool without one), broadcasts to (B, heads, S, S); ``None`` if both are.
    """
    if key_mask is None:
        return mask
    if mask is None:
        return (key_mask | ~key_mask.any(dim=1, keepdim=True))[:, None, None, :]  # (B, 1, 1, S)
    itself = torch.eye(key_mask.shape[1], dtype=torch.bool, device=key_mask.device)
    allowed = key_mask[:, None, None, :] | itself  # (B, 1, S, S)
    if mask.dtype == torch.bool:
        return allowed & mask
    return mask.masked_fill(~allowed, float("-inf"))
