"""Prediction heads: from hidden states to scores of genes, scores of bins, or expression values."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["BinPredictionHead", "ClassificationHead", "ExpressionPredictionHead", "MaskedGenePredictionHead"]


class ClassificationHead(nn.Module):
    """Linear, GELU, layer norm and a linear layer to the classes."""

    def __init__(self, hidden_dim: int, num_classes: int, layer_norm_eps: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.dense = nn.Linear(hidden_dim, hidden_dim)
        self.activation = nn.GELU()
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
    """Scores of all genes at each position: linear, GELU, layer norm, linear to the vocabulary.

    Parameters
    ----------
    hidden_dim
        Width H of the hidden states.
    vocab_size
        Number of tokens V, special ones included.
    layer_norm_eps
        Epsilon of the layer norm.
    """

    def __init__(self, hidden_dim: int, vocab_size: int, layer_norm_eps: float = 1e-12) -> None:
        super().__init__(hidden_dim, vocab_size, layer_norm_eps)


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
