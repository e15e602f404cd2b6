"""Pre-norm transformer blocks.

Each branch starts with a layer norm and is added to the stream (Xiong et al. 2020, arXiv:2002.04745), so the stream
itself is never normalised; the stack therefore ends with one more layer norm.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from scmodelforge._errors import ConfigError, nearest
from scmodelforge.models.components.attention import KeyValueCache, MultiHeadAttention, merge_masks

__all__ = ["FeedForward", "TransformerBlock", "TransformerStack", "get_activation"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "swish": nn.SiLU}


class TransformerStack(nn.Module):
    """Transformer blocks one after another, and a final layer norm.

    Parameters
    ----------
    hidden_dim
        Width H of the hidden states.
    num_layers
        Number of blocks.
    num_heads
        Attention heads; they divide ``hidden_dim``.
    ffn_dim
        Width inside the feed-forward layers; ``None`` is four times ``hidden_dim``.
    dropout
        Dropout on what each branch adds to the stream.
    attention_dropout
        Dropout on the attention weights.
    activation
        Activation of the feed-forward layers.
    layer_norm_eps
        Epsilon of the layer norms.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        *,
        ffn_dim: int | None = None,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        activation: str = "gelu",
        layer_norm_eps: float = 1e-12,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerBlock(
                hidden_dim,
                num_heads,
                ffn_dim=4 * hidden_dim if ffn_dim is None else ffn_dim,
                dropout=dropout,
                attention_dropout=attention_dropout,
                activation=activation,
                layer_norm_eps=layer_norm_eps,
            )
            for _ in range(num_layers)
        )
        self.final_norm = nn.LayerNorm(hidden_dim, eps=layer_norm_eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        *,
        caches: Sequence[KeyValueCache] | None = None,
        key_bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Let the tokens of each cell exchange information.

        Parameters
        ----------
        hidden_states
            Embedded tokens, shape (B, S, H).
        attention_mask
            1 for real tokens and 0 for padding, shape (B, S), of any type. ``None`` lets every token be seen.
        mask
            Which query may see which key, as :func:`generate_causal_mask` makes it, or bool.
        caches
            One for each layer, to go on from the tokens it holds. Then ``mask`` says all of what may be seen.
        key_bias
            Added to all attention that a token gets, in every layer, shape (B, S).

        Returns
        -------
        Hidden states, shape (B, S, H). Those at padding mean nothing.
        """
        merged = merge_masks(None if attention_mask is None else attention_mask != 0, mask)
        for number, layer in enumerate(self.layers):
            cache = None if caches is None else caches[number]
            hidden_states = layer(hidden_states, merged, cache=cache, key_bias=key_bias)
        return self.final_norm(hidden_states)


class TransformerBlock(nn.Module):
    """Attention and a feed-forward layer, each behind a layer norm and added to the stream.

    Parameters
    ----------
    hidden_dim
        Width H of the hidden states.
    num_heads
        Attention heads; they divide ``hidden_dim``.
    ffn_dim
        Width inside the feed-forward layer.
    dropout
        Dropout on what each branch adds to the stream.
    attention_dropout
        Dropout on the attention weights.
    activation
        Activation of the feed-forward layer.
    layer_norm_eps
        Epsilon of the layer norms.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        *,
        ffn_dim: int,
        dropout: float,
        attention_dropout: float,
        activation: str,
        layer_norm_eps: float,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden_dim, eps=layer_norm_eps)
        self.attention = MultiHeadAttention(hidden_dim, num_heads, dropout=attention_dropout)
        self.ffn_norm = nn.LayerNorm(hidden_dim, eps=layer_norm_eps)
        self.ffn = FeedForward(hidden_dim, ffn_dim, activation)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        hidden_states: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        cache: KeyValueCache | None = None,
        key_bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Transform hidden states, shape (B, S, H), under a mask that broadcasts to (B, heads, S, S)."""
        normed = self.attention_norm(hidden_states)
        attended = self.attention(normed, mask=mask, cache=cache, key_bias=key_bias)
        hidden_states = hidden_states + self.dropout(attended)
        return hidden_states + self.dropout(self.ffn(self.ffn_norm(hidden_states)))


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, on each token by itself.

    Parameters
    ----------
    hidden_dim
        Width H of the hidden states.
    ffn_dim
        Width between the layers.
    activation
        Name of the activation.
    """

    def __init__(self, hidden_dim: int, ffn_dim: int, activation: str = "gelu") -> None:
        super().__init__()
        self.up = nn.Linear(hidden_dim, ffn_dim)
        self.activation = get_activation(activation)
        self.down = nn.Linear(ffn_dim, hidden_dim)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Transform hidden states, shape (..., H)."""
        return self.down(self.activation(self.up(hidden_states)))


def get_activation(name: str) -> nn.Module:
    """Make the activation of a name.

    Parameters
    ----------
    name
        ``gelu``, ``relu`` or ``silu`` (also called ``swish``).

    Raises
    ------
    ConfigError
        If there is no such activation; the message lists those there are.
    """
    if name not in _ACTIVATIONS:
        msg = (
            f"unknown model.activation {name!r}.{nearest(name, _ACTIVATIONS)} Choose one of {', '.join(_ACTIVATIONS)}."
        )
        raise ConfigError(msg)
    return _ACTIVATIONS[name]()
