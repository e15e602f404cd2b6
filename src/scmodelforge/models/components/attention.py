"""Attention with separate projections, of tokens to one another or to other tokens.

``nn.TransformerEncoderLayer`` is not used: in evaluation mode it takes a fused path that reads the weights past the
modules, so that adapters put into them do nothing.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.models.components.capped import capped_attention, capped_weights
from scmodelforge.models.components.masks import generate_causal_mask, merge_masks, prefix_mask
from scmodelforge.models.components.packing import Packing
from scmodelforge.models.components.rotary import RotaryEmbedding
from scmodelforge.models.components.values import biased_width, with_key_bias

__all__ = ["KeyValueCache", "MultiHeadAttention", "generate_causal_mask", "merge_masks", "prefix_mask"]


class MultiHeadAttention(nn.Module):
    """Attention of each token to the tokens of its cell, or to those of something else.

    The projections are the modules ``q``, ``k``, ``v`` and ``o``, in training and in evaluation.

    Parameters
    ----------
    hidden_dim
        Width H of the hidden states.
    num_heads
        Number of heads; it divides ``hidden_dim``.
    dropout
        Dropout on the attention weights.
    rotary
        Whether queries and keys are turned by their position.
    bias
        Whether the projections have biases.
    soft_cap
        Most that a score may be, reached softly; ``None`` does not bound scores. No fused kernel does that.

    Raises
    ------
    ConfigError
        If the width cannot be shared among the heads.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        *,
        dropout: float = 0.0,
        rotary: bool = False,
        bias: bool = True,
        soft_cap: float | None = None,
    ) -> None:
        super().__init__()
        if hidden_dim % num_heads:
            msg = (
                f"model.hidden_dim ({hidden_dim}) is not divisible by model.num_heads ({num_heads}); "
                "change one of them so that it is."
            )
            raise ConfigError(msg)
        self.num_heads, self.head_dim = num_heads, hidden_dim // num_heads
        self.dropout = dropout
        self.rotary = RotaryEmbedding(self.head_dim) if rotary else None
        self.soft_cap = soft_cap
        self.q = nn.Linear(hidden_dim, hidden_dim, bias=bias)
        self.k = nn.Linear(hidden_dim, hidden_dim, bias=bias)
        self.v = nn.Linear(hidden_dim, hidden_dim, bias=bias)
        self.o = nn.Linear(hidden_dim, hidden_dim, bias=bias)

    def forward(
        self,
        hidden_states: torch.Tensor,
        key_mask: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        *,
        cache: KeyValueCache | None = None,
        key_bias: torch.Tensor | None = None,
        bias_itself: bool = True,
        maps: list[torch.Tensor] | None = None,
        packing: Packing | None = None,
        context: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Attend.

        Parameters
        ----------
        hidden_states
            Hidden states, shape (B, S, H).
        key_mask
            Tokens that may be seen, shape (B, S), bool.
        mask
            Which query may see which key, in a shape that broadcasts to (B, heads, S, S): bool, or added to the
            scores (``-inf`` blocks).
        cache
            Keys and values of the tokens before these; gets those of these tokens too. The keys of the masks are then
            all tokens so far.
        key_bias
            Added to all scores of a token of these, shape (B, S).
        bias_itself
            Whether it counts where a token attends to itself too. Without it, as with ``soft_cap``, scores are written
            down, and there can be no ``cache``.
        maps
            Gets the share of each key in each query, shape (B, heads, S, keys). The fused kernels do not give it, so
            it is computed beside them.
        packing
            Says that ``hidden_states``, shape (T, H), and ``key_bias``, shape (T,), are those of real tokens only, and
            what these see; other masks are not looked at then.
        context
            Keys and values of other tokens, K of them, to attend to in place of ``hidden_states``, as
            :meth:`keys_values` gives them; masks then broadcast to (B, heads, S, K). There can be no ``cache``,
            ``key_bias`` or ``packing``.

        Returns
        -------
        The shape of ``hidden_states``.
        """
        if context is not None:
            assert (cache, key_bias, packing) == (None, None, None)
            query = self.queries(hidden_states, self.positions(hidden_states, None))
            return self.attend((query, *context), key_mask, mask, maps=maps)
        if cache is None and maps is None and self.is_alone(hidden_states, packing):
            return self._alone(hidden_states)
        positions = self.positions(hidden_states, packing, start=0 if cache is None else len(cache))
        heads = self.project(hidden_states, positions)
        options: dict[str, Any] = {"key_bias": key_bias, "bias_itself": bias_itself, "packing": packing}
        return self.attend(heads, key_mask, mask, cache=cache, maps=maps, **options)

    def is_alone(self, hidden_states: torch.Tensor, packing: Packing | None) -> bool:
        """Tell whether each cell has one token only, which is then worth a way of its own."""
        return packing is None and hidden_states.shape[1] == 1 and not (self.training and self.dropout > 0)

    def positions(self, hidden_states: torch.Tensor, packing: Packing | None, *, start: int = 0) -> torch.Tensor | None:
        """Return the positions of tokens if attention depends on them; those of padded cells begin with ``start``."""
        if self.rotary is None:
            return None
        if packing is not None:
            return packing.positions
        return torch.arange(start, start + hidden_states.shape[1], device=hidden_states.device)

    def project(
        self, hidden_states: torch.Tensor, positions: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the heads of queries, keys and values, shape (B, heads, S, D); of packed states (heads, T, D)."""
        return self.queries(hidden_states, positions), *self.keys_values(hidden_states, positions)

    def queries(self, hidden_states: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        """Return the heads of queries as :meth:`project` does."""
        query = self._split_heads(self.q(hidden_states))
        if self.rotary is None:
            return query
        assert positions is not None
        return self.rotary(query, positions)

    def keys_values(
        self, hidden_states: torch.Tensor, positions: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the heads of keys and values as :meth:`project` does; for others to attend to, as ``context``."""
        key, value = self._split_heads(self.k(hidden_states)), self._split_heads(self.v(hidden_states))
        if self.rotary is None:
            return key, value
        assert positions is not None
        return self.rotary(key, positions), value

    def attend(
        self,
        heads: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        key_mask: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        *,
        cache: KeyValueCache | None = None,
        key_bias: torch.Tensor | None = None,
        bias_itself: bool = True,
        maps: list[torch.Tensor] | None = None,
        packing: Packing | None = None,
    ) -> torch.Tensor:
        """Attend with the heads that :meth:`project` gives; the rest is as in :meth:`forward`."""
        written = self.written_down(has_bias=key_bias is not None, bias_itself=bias_itself)
        assert not written or cache is None
        if packing is not None:
            return self._packed(heads, key_bias, packing, written)
        query, key, value = heads
        width = query.shape[-1]
        if key_bias is not None and not written:
            query, key, value = with_key_bias(query, key, value, key_bias)
        if cache is not None:
            key, value = cache.extend(key, value)
        merged = merge_masks(key_mask, mask)
        if merged is not None and merged.dtype != torch.bool:
            merged = merged.to(query.dtype)  # GPU kernels take no other type
        scale, options = 1 / math.sqrt(width), {"key_bias": key_bias, **written} if written else {}
        if maps is not None:
            maps.append(capped_weights(query, key, attn_mask=merged, scale=scale, **options))
        attend = capped_attention if written else F.scaled_dot_product_attention
        dropout = self.dropout if self.training else 0.0
        mixed = attend(query, key, value, attn_mask=merged, dropout_p=dropout, scale=scale, **options)
        return self.o(mixed[..., :width].transpose(1, 2).flatten(2))

    def width_of_keys(self, *, has_bias: bool) -> int:
        """Return the width of each head's keys, with a bias of keys the wider one."""
        return biased_width(self.head_dim) if has_bias else self.head_dim

    def written_down(self, *, has_bias: bool, bias_itself: bool) -> dict[str, Any]:
        """Return what is done to scores that no fused kernel does; empty if nothing is."""
        if self.soft_cap is None and (not has_bias or bias_itself):
            return {}
        return {"soft_cap": self.soft_cap, "bias_itself": bias_itself}

    def _alone(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Attend where a token sees nothing but itself: its share is 1 whatever the scores are.

        Computed, their gradients would be rounding errors, which an optimiser that divides by their size follows.
        """
        nothing = self.q(hidden_states[:, :0]).sum() + self.k(hidden_states[:, :0]).sum()  # 0, with gradients of 0
        return self.o(self.v(hidden_states) + nothing)

    def _packed(
        self,
        heads: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        key_bias: torch.Tensor | None,
        packing: Packing,
        written: dict[str, Any],
    ) -> torch.Tensor:
        query, key, value = heads
        width = query.shape[-1]
        options: dict[str, Any] = {"dropout_p": self.dropout if self.training else 0.0, "scale": 1 / math.sqrt(width)}
        if written:
            options |= {"within": partial(capped_attention, **written), "key_bias": key_bias}
        elif key_bias is not None:
            wider = with_key_bias(query[None], key[None], value[None], key_bias[None])
            query, key, value = (each[0] for each in wider)
        mixed = packing.attend(query, key, value, **options)
        return self.o(mixed[..., :width].transpose(0, 1).flatten(1))

    def _split_heads(self, projected: torch.Tensor) -> torch.Tensor:
        return projected.unflatten(-1, (self.num_heads, self.head_dim)).transpose(-3, -2)


class KeyValueCache:
    """Keys and values of the tokens a layer has seen, so that a next token costs one token and not the sequence.

    Parameters
    ----------
    capacity
        Most tokens S it will hold.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._length = 0
        self._keys: torch.Tensor | None = None
        self._values: torch.Tensor | None = None

    def __len__(self) -> int:
        return self._length

    def extend(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Add keys and values, shape (B, heads, S, H / heads), and return those of all tokens so far."""
        batch, heads, added, width = key.shape
        if self._keys is None or self._values is None:
            self._keys = key.new_empty(batch, heads, self._capacity, width)
            self._values = torch.empty_like(self._keys)
        end = self._length + added
        self._keys[:, :, self._length : end] = key
        self._values[:, :, self._length : end] = value
        self._length = end
        return self._keys[:, :, :end], self._values[:, :, :end]
