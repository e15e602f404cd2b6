"""Transformer blocks.

With ``norm_placement: pre`` each branch starts with a norm and is added to the stream (Xiong et al. 2020,
arXiv:2002.04745), so the stream itself is never normalised; the stack therefore ends with one more norm. With ``post``
the stream is normalised after each addition (Vaswani et al. 2017, arXiv:1706.03762), and there is no other norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from scmodelforge._errors import ConfigError
from scmodelforge.models.components.attention import KeyValueCache, MultiHeadAttention, merge_masks
from scmodelforge.models.components.blocks import FeedForward, Trace, get_norm
from scmodelforge.models.components.packing import Kernel, Packing, packed_kernel

__all__ = ["TransformerBlock", "TransformerStack"]


class TransformerStack(nn.Module):
    """Transformer blocks one after another and, with pre-norm blocks, a final norm.

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
        Activation of the feed-forward layers: ``gelu``, ``relu``, ``silu`` or ``swiglu``.
    layer_norm_eps
        Epsilon of the norms.
    norm_placement
        ``pre`` or ``post``.
    norm
        ``layer_norm`` or ``rms_norm``.
    rotary
        Whether attention depends on the distance of tokens: :class:`RotaryEmbedding`.
    checkpointing
        Whether blocks are computed once more on the way back in training, instead of keeping what is inside them.

    Raises
    ------
    ConfigError
        If there is no such activation, norm or place of it, or the width does not fit the heads.
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
        norm_placement: str = "pre",
        norm: str = "layer_norm",
        rotary: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.layers = nn.ModuleList(
            TransformerBlock(
                hidden_dim,
                num_heads,
                ffn_dim=4 * hidden_dim if ffn_dim is None else ffn_dim,
                dropout=dropout,
                attention_dropout=attention_dropout,
                activation=activation,
                layer_norm_eps=layer_norm_eps,
                norm_placement=norm_placement,
                norm=norm,
                rotary=rotary,
            )
            for _ in range(num_layers)
        )
        is_pre = norm_placement == "pre"
        self.final_norm = get_norm(norm, hidden_dim, layer_norm_eps) if is_pre else nn.Identity()

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        *,
        caches: Sequence[KeyValueCache] | None = None,
        key_bias: torch.Tensor | None = None,
        trace: Trace | None = None,
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
        trace
            Gets hidden states and attention maps on the way.

        Returns
        -------
        Hidden states, shape (B, S, H). Those at padding mean nothing.
        """
        wants_maps = trace is not None and trace.maps
        packing = None
        if caches is None and not wants_maps:
            packing = Packing.of(attention_mask, mask, kernel=self._kernel(hidden_states, mask, key_bias))
        if packing is None:
            merged = merge_masks(None if attention_mask is None else attention_mask != 0, mask)
        else:
            merged, hidden_states = None, packing.pack(hidden_states)
            key_bias = None if key_bias is None else packing.pack(key_bias)

        def keep(states: torch.Tensor) -> None:
            if trace is not None and trace.states:
                trace.hidden_states.append(states if packing is None else packing.unpack(states))

        recomputes = self.checkpointing and self.training and caches is None and torch.is_grad_enabled()
        for number, layer in enumerate(self.layers):
            keep(hidden_states)
            cache = None if caches is None else caches[number]
            maps = trace.attentions if trace is not None and trace.maps else None
            run = partial(layer, cache=cache, key_bias=key_bias, maps=maps, packing=packing)
            if recomputes and maps is None:
                hidden_states = checkpoint(run, hidden_states, merged, use_reentrant=False)
            else:
                hidden_states = run(hidden_states, merged)
        hidden_states = self.final_norm(hidden_states)
        keep(hidden_states)
        return hidden_states if packing is None else packing.unpack(hidden_states)

    def _kernel(self, states: torch.Tensor, mask: torch.Tensor | None, key_bias: torch.Tensor | None) -> Kernel | None:
        first = self.layers[0]
        assert isinstance(first, TransformerBlock)
        attention = first.attention
        return packed_kernel(
            states,
            sees_all=mask is None,
            dropout=attention.dropout if self.training else 0.0,
            head_dim=attention.width_of_keys(has_bias=key_bias is not None),
        )


class TransformerBlock(nn.Module):
    """Attention and a feed-forward layer, each added to the stream, with a norm before or after.

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
        Activation of the feed-forward layers: ``gelu``, ``relu``, ``silu`` or ``swiglu``.
    layer_norm_eps
        Epsilon of the norms.
    norm_placement
        ``pre`` or ``post``.
    norm
        ``layer_norm`` or ``rms_norm``.
    rotary
        Whether attention depends on the distance of tokens: :class:`RotaryEmbedding`.
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
        norm_placement: str = "pre",
        norm: str = "layer_norm",
        rotary: bool = False,
    ) -> None:
        super().__init__()
        if norm_placement not in ("pre", "post"):
            msg = f"model.norm_placement is {norm_placement!r}; choose 'pre' or 'post'."
            raise ConfigError(msg)
        self.is_pre = norm_placement == "pre"
        self.attention_norm = get_norm(norm, hidden_dim, layer_norm_eps)
        self.attention = MultiHeadAttention(hidden_dim, num_heads, dropout=attention_dropout, rotary=rotary)
        self.ffn_norm = get_norm(norm, hidden_dim, layer_norm_eps)
        self.ffn = FeedForward(hidden_dim, ffn_dim, activation)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        hidden_states: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        cache: KeyValueCache | None = None,
        key_bias: torch.Tensor | None = None,
        maps: list[torch.Tensor] | None = None,
        packing: Packing | None = None,
    ) -> torch.Tensor:
        """Transform hidden states, shape (B, S, H), under a mask that broadcasts to (B, heads, S, S).

        ``maps`` gets the attention map. With ``packing`` the hidden states are those of real tokens, shape (T, H).
        """
        normed = self.attention_norm(hidden_states) if self.is_pre else hidden_states
        attended = self.attention(normed, mask=mask, cache=cache, key_bias=key_bias, maps=maps, packing=packing)
        hidden_states = hidden_states + self.dropout(attended)
        if self.is_pre:
            return hidden_states + self.dropout(self.ffn(self.ffn_norm(hidden_states)))
        hidden_states = self.attention_norm(hidden_states)
        return self.ffn_norm(hidden_states + self.dropout(self.ffn(hidden_states)))
