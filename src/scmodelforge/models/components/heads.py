"""Prediction heads: from hidden states to scores of genes, scores of bins, or expression values."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from scmodelforge.models.components.blocks import get_activation

__all__ = [
    "BinPredictionHead",
    "ClassificationHead",
    "ExpressionPredictionHead",
    "MaskedGenePredictionHead",
    "TiedLinear",
]


class ClassificationHead(nn.Module):
    """Linear, an activation, layer norm and a linear layer to the classes."""

    decoder: nn.Linear | TiedLinear

    def __init__(self, hidden_dim: int, num_classes: int, layer_norm_eps: float, *, activation: str = "gelu") -> None:
        super().__init__()
        self.num_classes = num_classes
        self.dense = nn.Linear(hidden_dim, hidden_dim)
        self.activation = get_activation(activation)
        self.layer_norm = nn.LayerNorm(hidden_dim, eps=layer_norm_eps)
        self.decoder = nn.Linear(hidden_dim, num_classes)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Score the classes.

        Parameters
        ----------
        hidden_states
            Hidden states, shape (B, S, H), or any other shape that ends in H.

        Returns
        -------
        Unnormalised logits; the last dimension is the number of classes.
        """
        return self.decoder(self.features(hidden_states))

    def features(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return what the last layer scores the classes from, of the shape of the hidden states."""
        return self.layer_norm(self.activation(self.dense(hidden_states)))


class MaskedGenePredictionHead(ClassificationHead):
    """Scores of all genes at each position: linear, an activation, layer norm, linear to the vocabulary.

    Parameters
    ----------
    hidden_dim
        Width H of the hidden states.
    vocab_size
        Number of tokens V, special ones included.
    layer_norm_eps
        Epsilon of the layer norm.
    activation
        Name of the activation.
    tied_to
        A gene embedding whose vectors are the weights of the last layer; ``None`` gives it its own.
    """

    def __init__(
        self,
        hidden_dim: int,
        vocab_size: int,
        layer_norm_eps: float = 1e-12,
        *,
        activation: str = "gelu",
        tied_to: nn.Embedding | None = None,
    ) -> None:
        super().__init__(hidden_dim, vocab_size, layer_norm_eps, activation=activation)
        if tied_to is not None:
            self.decoder = TiedLinear(tied_to)


class TiedLinear(nn.Module):
    """A linear layer whose weights are the vectors of an embedding, which is another part of the model.

    The embedding is not registered here: its weights are stored once, and it is copied along with the whole model.

    Parameters
    ----------
    embedding
        The embedding, V vectors of width H.
    """

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings))
        object.__setattr__(self, "_embedding", embedding)

    @property
    def weight(self) -> torch.Tensor:
        """The vectors, shape (V, H)."""
        embedding: nn.Embedding = self.__dict__["_embedding"]
        return embedding.weight

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Score the tokens: shape (..., H) to (..., V)."""
        return F.linear(hidden_states, self.weight, self.bias)


class BinPredictionHead(ClassificationHead):
    """Scores of all expression bins at each position: linear, GELU, layer norm, linear to the bins.

    Parameters
    ----------
    hidden_dim
        Width H of the hidden states.
    n_bins
        Number of bins K.
    layer_norm_eps
        Epsilon of the layer norm.
    """

    def __init__(self, hidden_dim: int, n_bins: int, layer_norm_eps: float = 1e-12) -> None:
        super().__init__(hidden_dim, n_bins, layer_norm_eps)


class ExpressionPredictionHead(nn.Module):
    """One expression value at each position: linear, GELU, linear to a scalar.

    Parameters
    ----------
    hidden_dim
        Width H of the hidden states.
    """

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_dim, hidden_dim)
        self.activation = nn.GELU()
        self.decoder = nn.Linear(hidden_dim, 1)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Predict expression values.

        Parameters
        ----------
        hidden_states
            Hidden states, shape (B, S, H), or any other shape that ends in H.

        Returns
        -------
        Predicted values, shape (B, S).
        """
        return self.decoder(self.activation(self.dense(hidden_states))).squeeze(-1)
