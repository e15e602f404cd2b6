"""From hidden states of tokens to one embedding of the cell."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.models.components.packing import is_always_packed

__all__ = ["AttentionPooling", "Pooling", "cls_pool", "get_pooling", "mean_pool", "mean_seen"]

#: Rows that PyTorch sums up side by side on a CPU, or a multiple of their number.
_ROWS_OF_A_GROUP = 16


class Pooling(Protocol):
    """A function from hidden states, shape (B, S, H), and their mask, shape (B, S), to embeddings, shape (B, H)."""

    def __call__(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return cell embeddings, shape (B, H)."""
        ...


def cls_pool(hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Take the hidden state of the first token of each cell.

    Parameters
    ----------
    hidden_states
        Hidden states, shape (B, S, H).
    attention_mask
        Not used; accepted so that all poolings are called alike.

    Returns
    -------
    Cell embeddings, shape (B, H).
    """
    return hidden_states[:, 0]


def mean_pool(hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Average the hidden states of each cell over its real tokens.

    Parameters
    ----------
    hidden_states
        Hidden states, shape (B, S, H).
    attention_mask
        1 for real tokens and 0 for padding, shape (B, S), of any type. ``None`` counts every token.

    Returns
    -------
    Cell embeddings, shape (B, H). A cell without real tokens gets zeros, never NaN.
    """
    if attention_mask is None:
        return hidden_states.mean(dim=1)
    is_real = (attention_mask != 0).unsqueeze(-1)  # (B, S, 1)
    # bf16 holds sums and counts beyond 256 with three digits at best, so the mean is taken in single precision
    dtype = torch.promote_types(hidden_states.dtype, torch.float32)
    real = hidden_states.masked_fill(~is_real, 0.0)
    if is_always_packed():  # rows that do not make up a whole group are summed up in another order
        real = F.pad(real, (0, 0, 0, -real.shape[1] % _ROWS_OF_A_GROUP))
    total = real.sum(dim=1, dtype=dtype)  # (B, H)
    return (total / is_real.sum(dim=1).clamp(min=1)).to(hidden_states.dtype)


def mean_seen(hidden_states: torch.Tensor, attention_mask: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average at each position over the real tokens that the position sees.

    Parameters
    ----------
    hidden_states
        Hidden states, shape (B, S, H).
    attention_mask
        1 for real tokens and 0 for padding, shape (B, S), of any type.
    mask
        Which position sees which token, bool, shape (1, 1, S, S) or (B, 1, S, S).

    Returns
    -------
    Shape (B, S, H); zeros where a position sees no real token. Where it sees the whole cell it is :func:`mean_pool`.
    """
    is_real = attention_mask != 0  # (B, S)
    with torch.autocast(hidden_states.device.type, enabled=False):  # sums of a thousand tokens in bf16 lose the last
        seen = (mask[:, 0] & is_real[:, None, :]).float()  # (B, S, S)
        total = seen @ hidden_states.masked_fill(~is_real.unsqueeze(-1), 0.0).float()  # cumsum is not deterministic
        return (total / seen.sum(dim=-1, keepdim=True).clamp(min=1)).to(hidden_states.dtype)


class AttentionPooling(nn.Module):
    """Average over tokens with learned weights: a softmax of the score that a small network gives each token.

    Parameters
    ----------
    hidden_dim
        Width H of the hidden states.
    inner
        Width inside the network.
    """

    def __init__(self, hidden_dim: int, inner: int = 32) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(hidden_dim, inner), nn.Tanh(), nn.Linear(inner, 1))

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Pool hidden states, shape (B, S, H), over the tokens whose mask is not 0, to shape (B, H).

        Without a real token the result is zeros.
        """
        scores = self.score(hidden_states)[..., 0]  # (B, S)
        if attention_mask is None:
            return torch.einsum("bs,bsh->bh", scores.softmax(dim=-1), hidden_states)
        is_real = attention_mask != 0
        weights = scores.masked_fill(~is_real, torch.finfo(scores.dtype).min).softmax(dim=-1) * is_real
        return torch.einsum("bs,bsh->bh", weights, hidden_states.masked_fill(~is_real[..., None], 0.0))


def get_pooling(name: str) -> Pooling:
    """Return the pooling of a name.

    A cell without real tokens gets zeros and passes no gradient back: the layer norms of nothing would make it huge.

    Parameters
    ----------
    name
        ``cls`` for the first token, ``mean`` for the average over the real tokens.

    Raises
    ------
    ConfigError
        If there is no such pooling.
    """
    poolings: dict[str, Pooling] = {"cls": cls_pool, "mean": mean_pool}
    if name not in poolings:
        msg = f"unknown model.pooling {name!r}; choose one of {', '.join(poolings)}."
        raise ConfigError(msg)
    pool = poolings[name]

    def pool_real(hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        pooled = pool(hidden_states, attention_mask)
        if attention_mask is None:
            return pooled
        return pooled.masked_fill(~(attention_mask != 0).any(dim=1, keepdim=True), 0.0)

    return pool_real
