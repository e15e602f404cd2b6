"""What the rest of the package expects of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

__all__ = ["ModelOutput", "ScModelForgeModel"]


@dataclass(frozen=True)
class ModelOutput:
    """Standard output of all models.

    Attributes
    ----------
    loss
        Scalar training loss, present only when labels are given.
    logits
        Predictions, shape (B, S, V) for gene tokens or (B, S) for continuous values.
    embeddings
        Cell embeddings, shape (B, H).
    hidden_states
        What entered the first layer and what left each, each of shape (B, S, H); if asked for.
    attentions
        Of each layer the share of each key in each query, shape (B, heads, S, S); if asked for.
    loss_terms
        The weighted terms ``loss`` is the sum of, by name, each a mean over its own targets. With them the training
        loop weights each term by its number of targets; ``None`` stands for one term that counts all targets.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    embeddings: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    loss_terms: dict[str, torch.Tensor] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@runtime_checkable
class ScModelForgeModel(Protocol):
    """A model: an ``nn.Module`` with ``forward`` and ``encode``, registered under a name, made by ``from_config``.

    A model may also have ``generate``. Unknown keyword arguments must be ignored, since the whole batch is passed.
    """

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: Any) -> ModelOutput:
        """Return predictions and embeddings, and the loss when ``labels`` are given."""
        ...

    def encode(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Return cell embeddings, shape (B, H)."""
        ...
