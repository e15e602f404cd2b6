"""Parts of transformer blocks: norms, feed-forward layers, and what a stack keeps of its way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from scmodelforge._errors import ConfigError, nearest
from scmodelforge.models.protocol import ModelOutput

__all__ = ["FeedForward", "Trace", "get_activation", "get_norm", "with_trace"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "swish": nn.SiLU}
_GATED = "swiglu"
_NORMS = ("layer_norm", "rms_norm")


@dataclass
class Trace:
    """What to keep on the way through a stack, and what was kept.

    Attributes
    ----------
    states, maps
        Whether to keep hidden states, and attention maps.
    hidden_states
        What entered the first block, and what left each, shape (B, S, H). The last is after the final norm.
    attentions
        Of each block the share of each key in each query, shape (B, heads, S, S).
    """

    states: bool = True
    maps: bool = False
    hidden_states: list[torch.Tensor] = field(default_factory=list)
    attentions: list[torch.Tensor] = field(default_factory=list)

    @staticmethod
    def given(trace: Trace | None) -> dict[str, Any]:
        """Return the trace as a keyword argument, if there is one: methods of subclasses need not know of it."""
        return {} if trace is None else {"trace": trace}

    @classmethod
    def asked(cls, *, states: bool, maps: bool) -> Trace | None:
        """Return a trace, or ``None`` if nothing is to be kept."""
        return cls(states, maps) if states or maps else None


def with_trace(output: ModelOutput, trace: Trace | None) -> ModelOutput:
    """Return a model's output with what was kept."""
    if trace is None:
        return output
    return replace(
        output,
        hidden_states=tuple(trace.hidden_states) if trace.states else None,
        attentions=tuple(trace.attentions) if trace.maps else None,
    )


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, on each token by itself.

    With ``swiglu`` the activation is a product of two projections, one through SiLU (Shazeer 2020, arXiv:2002.05202):
    half as many weights again.

    Parameters
    ----------
    hidden_dim
        Width H of the hidden states.
    ffn_dim
        Width between the layers.
    activation
        Name of the activation.
    bias
        Whether the layers have biases.
    """

    def __init__(self, hidden_dim: int, ffn_dim: int, activation: str = "gelu", *, bias: bool = True) -> None:
        super().__init__()
        self.up = nn.Linear(hidden_dim, ffn_dim, bias=bias)
        self.gate = nn.Linear(hidden_dim, ffn_dim, bias=bias) if activation == _GATED else None
        self.activation = nn.SiLU() if activation == _GATED else get_activation(activation, gated=True)
        self.down = nn.Linear(ffn_dim, hidden_dim, bias=bias)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Transform hidden states, shape (..., H)."""
        if self.gate is None:
            return self.down(self.activation(self.up(hidden_states)))
        return self.down(self.activation(self.gate(hidden_states)) * self.up(hidden_states))


def get_activation(name: str, *, gated: bool = False) -> nn.Module:
    """Make the activation of a name.

    Parameters
    ----------
    name
        ``gelu``, ``relu`` or ``silu`` (also called ``swish``).
    gated
        Whether ``swiglu`` is a choice too, where it is asked for.

    Raises
    ------
    ConfigError
        If there is no such activation; the message lists those there are.
    """
    if name not in _ACTIVATIONS:
        names = [*_ACTIVATIONS, _GATED] if gated else list(_ACTIVATIONS)
        msg = f"unknown model.activation {name!r}.{nearest(name, names)} Choose one of {', '.join(names)}."
        raise ConfigError(msg)
    return _ACTIVATIONS[name]()


def get_norm(name: str, width: int, eps: float) -> nn.Module:
    """Make a norm of hidden states.

    Parameters
    ----------
    name
        ``layer_norm``, or ``rms_norm``, which has no mean and no bias (Zhang and Sennrich 2019, arXiv:1910.07467).
    width
        Width of the hidden states.
    eps
        Added to the variance, or to the mean of squares.

    Raises
    ------
    ConfigError
        If there is no such norm.
    """
    if name not in _NORMS:
        msg = f"unknown model.norm {name!r}.{nearest(name, _NORMS)} Choose one of {', '.join(_NORMS)}."
        raise ConfigError(msg)
    return nn.LayerNorm(width, eps=eps) if name == "layer_norm" else _RMSNorm(width, eps=eps)


class _RMSNorm(nn.RMSNorm):
    """The norm in single precision at least, as layer norms are under autocast."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        exact = hidden_states.float() if hidden_states.dtype in (torch.bfloat16, torch.float16) else hidden_states
        weight = None if self.weight is None else self.weight.to(exact.dtype)
        normed = F.rms_norm(exact, tuple(self.normalized_shape), weight, self.eps)
        return normed.to(hidden_states.dtype)
