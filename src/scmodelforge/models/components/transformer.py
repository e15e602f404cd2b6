"""Transformer blocks.

With ``norm_placement: pre`` each branch starts with a norm and is added to the stream (Xiong et al. 2020,
arXiv:2002.04745), so the stream itself is never normalised; the stack therefore ends with one more norm. With ``post``
the stream is normalised after each addition (Vaswani et al. 2017, arXiv:1706.03762), and there is no other norm. With
``stream`` it is normalised before each branch, and the branch is added to the normalised stream (Pearce et al. 2025,
doi:10.1101/2025.04.25.650731); what leaves the stack is not normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from scmodelforge._errors import ConfigError
from scmodelforge.models.components.attention import KeyValueCache, MultiHeadAttention, merge_masks
from scmodelforge.models.components.blocks import FeedForward, Trace, get_norm
from scmodelforge.models.components.compiled import around_attention
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
        ``pre``, ``post`` or ``stream``.
    norm
        ``layer_norm`` or ``rms_norm``.
    rotary
        Whether attention depends on the distance of tokens: :class:`RotaryEmbedding`.
    bias
        Whether linear layers have biases.
    soft_cap
        Most that a score of attention may be, reached softly; ``None`` does not bound scores.
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
        bias: bool = True,
        soft_cap: float | None = None,
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
                bias=bias,
                soft_cap=soft_cap,
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
        bias_itself: bool = True,
        trace: Trace | None = None,
        left_out: int = 0,
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
        bias_itself
            Whether it is added to the attention that a token gives itself too.
        trace
            Gets hidden states and attention maps on the way.
        left_out
            Number of blocks at the end that are not passed.

        Returns
        -------
        Hidden states, shape (B, S, H). Those at padding mean nothing.
        """
        wants_maps = trace is not None and trace.maps
        packing = None
        if caches is None and not wants_maps:
            kernel = self._kernel(hidden_states, mask, has_bias=key_bias is not None, bias_itself=bias_itself)
            packing = Packing.of(attention_mask, mask, kernel=kernel)
        if packing is None:
            merged = merge_masks(None if attention_mask is None else attention_mask != 0, mask)
        else:
            merged, hidden_states = None, packing.pack(hidden_states)
            key_bias = None if key_bias is None else packing.pack(key_bias)

        def keep(states: torch.Tensor) -> None:
            if trace is not None and trace.states:
                trace.hidden_states.append(states if packing is None else packing.unpack(states))

        recomputes = self.checkpointing and self.training and caches is None and torch.is_grad_enabled()
        for number, layer in enumerate(self.layers[: len(self.layers) - left_out]):
            keep(hidden_states)
            cache = None if caches is None else caches[number]
            maps = trace.attentions if trace is not None and trace.maps else None
            options = {"key_bias": key_bias, "bias_itself": bias_itself, "maps": maps, "packing": packing}
            run = partial(layer, cache=cache, **options)
            if recomputes and maps is None:
                hidden_states = checkpoint(run, hidden_states, merged, use_reentrant=False)
            else:
                hidden_states = run(hidden_states, merged)
        hidden_states = self.final_norm(hidden_states)
        keep(hidden_states)
        return hidden_states if packing is None else packing.unpack(hidden_states)

    def _kernel(
        self, states: torch.Tensor, mask: torch.Tensor | None, *, has_bias: bool, bias_itself: bool
    ) -> Kernel | None:
        first = self.layers[0]
        assert isinstance(first, TransformerBlock)
        attention = first.attention
        is_plain = mask is None and not attention.written_down(has_bias=has_bias, bias_itself=bias_itself)
        return packed_kernel(
            states,
            is_plain=is_plain,
            dropout=attention.dropout if self.training else 0.0,
            head_dim=attention.width_of_keys(has_bias=has_bias),
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
        ``pre``, ``post`` or ``stream``.
    norm
        ``layer_norm`` or ``rms_norm``.
    rotary
        Whether attention depends on the distance of tokens: :class:`RotaryEmbedding`.
    bias
        Whether linear layers have biases.
    soft_cap
        Most that a score of attention may be, reached softly; ``None`` does not bound scores.
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
        bias: bool = True,
        soft_cap: float | None = None,
    ) -> None:
        super().__init__()
        if norm_placement not in ("pre", "post", "stream"):
            msg = f"model.norm_placement is {norm_placement!r}; choose 'pre', 'post' or 'stream'."
            raise ConfigError(msg)
        self.norm_placement = norm_placement
        self.attention_norm = get_norm(norm, hidden_dim, layer_norm_eps)
        self.attention = MultiHeadAttention(
            hidden_dim, num_heads, dropout=attention_dropout, rotary=rotary, bias=bias, soft_cap=soft_cap
        )
        self.ffn_norm = get_norm(norm, hidden_dim, layer_norm_eps)
        self.ffn = FeedForward(hidden_dim, ffn_dim, activation, bias=bias)
        self.dropout = nn.Dropout(dropout)
        #: What compiles a step of training around attention, a backend of ``torch.compile``.
        self.compiler: str | None = None

    def forward(
        self,
        hidden_states: torch.Tensor,
        mask: torch.Tensor | None = None,
        **attention: Any,
    ) -> torch.Tensor:
        """Transform hidden states, shape (B, S, H), under a mask that broadcasts to (B, heads, S, S).

        ``attention`` are options of :class:`MultiHeadAttention`: ``cache``, ``key_bias``, ``bias_itself``, ``maps``,
        ``context`` and ``packing``; with the last the hidden states are those of real tokens, shape (T, H).
        """
        if self._is_compiled(attention):
            assert self.compiler is not None
            return around_attention(self, self.compiler, hidden_states, mask=mask, **attention)
        normed = self.before(hidden_states)
        return self.after(hidden_states, normed, self.attention(normed, mask=mask, **attention))

    def before(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return what goes into attention."""
        return hidden_states if self.norm_placement == "post" else self.attention_norm(hidden_states)

    def after(self, hidden_states: torch.Tensor, normed: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """Return what leaves the block, of what entered it, what went into attention and what came out of that."""
        if self.norm_placement == "post":
            hidden_states = self.attention_norm(hidden_states + self.dropout(attended))
            return self.ffn_norm(hidden_states + self.dropout(self.ffn(hidden_states)))
        stream = normed if self.norm_placement == "stream" else hidden_states
        stream = stream + self.dropout(attended)
        normed = self.ffn_norm(stream)
        return (normed if self.norm_placement == "stream" else stream) + self.dropout(self.ffn(normed))

    def _is_compiled(self, attention: dict[str, Any]) -> bool:
        """Tell whether this is a step of training to be compiled: evaluation and generation are not."""
        if self.compiler is None or not self.training or not torch.is_grad_enabled():
            return False
        return all(attention.get(name) is None for name in ("cache", "maps", "context"))
