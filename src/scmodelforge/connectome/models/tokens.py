"""From the expression of a region to tokens: one for each gene, by bin and gene vector, or one for some genes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from scmodelforge._errors import ConfigError, require_whole

__all__ = ["BINNINGS", "Binning", "ExpressionBins", "GeneChunks", "GeneTokens"]

Binning = Literal["uniform", "quantile", "learned"]
BINNINGS = ("uniform", "quantile", "learned")

_LEARNED_WIDTH = 200  # of gene vectors that are learned: as many numbers as gene2vec has
_CHUNK_SPREAD = 0.5  # of vectors that tell chunks apart: about that of projected expression
_LEAST_SPREAD = 1e-6  # of a gene beside its mean, that it may be divided by
_SOFTNESS = 0.25  # of a learned boundary, in widths of a bin


class ExpressionBins(nn.Module):
    """Expression as one of so many bins, one-hot.

    Parameters
    ----------
    num_bins
        Number of bins K.
    binning
        ``uniform``: equal widths over [0, 1], what is outside in the first or last; bins are closed below, and the last
        above too. ``quantile``: of each gene, as many training regions in each, by :meth:`fit_edges`; uniform before.
        ``learned``: boundaries are parameters, common to all genes, and a value near one is partly in either bin, so
        that gradients reach them.
    num_genes
        Number of genes N.

    Raises
    ------
    ConfigError
        (a ``ValueError``) If there is no such binning, or fewer than two bins.
    """

    edges: torch.Tensor

    def __init__(self, num_bins: int, binning: Binning, num_genes: int) -> None:
        super().__init__()
        require_whole("expression_bins", num_bins, 2)
        if binning not in BINNINGS:
            msg = f"binning is {binning!r}; one of {', '.join(BINNINGS)} is needed."
            raise ConfigError(msg)
        self.num_bins, self.binning = num_bins, binning
        even = torch.arange(1, num_bins) / num_bins
        if binning == "quantile":
            self.register_buffer("edges", even.repeat(num_genes, 1))  # (N, K - 1)
        elif binning == "learned":
            self.boundaries = nn.Parameter(even)

    def forward(self, expression: torch.Tensor) -> torch.Tensor:
        """Return the share of each bin in each value: (B, N) to (B, N, K); 0 and 1 unless boundaries are learned."""
        if self.binning == "learned":
            return self._soft(expression)
        if self.binning == "quantile":
            index = (expression[..., None] >= self.edges).sum(dim=-1)
        else:
            index = (expression.clamp(0, 1) * self.num_bins).floor().long().clamp(max=self.num_bins - 1)
        return functional.one_hot(index, self.num_bins).to(expression.dtype)

    def fit_edges(self, expression: torch.Tensor) -> None:
        """Take the quantiles of each gene over some regions, shape (R, N), as edges, where they are asked for."""
        if self.binning == "quantile":
            shares = torch.arange(1, self.num_bins, dtype=torch.float64) / self.num_bins
            edges = np.quantile(expression.double().cpu().numpy(), shares.numpy(), axis=0)  # (K - 1, N)
            self.edges.copy_(torch.from_numpy(edges.T))

    def _soft(self, expression: torch.Tensor) -> torch.Tensor:
        boundaries = self.boundaries.sort().values
        above = torch.sigmoid((expression[..., None] - boundaries) * (self.num_bins / _SOFTNESS))  # (B, N, K - 1)
        all_of_it, none = torch.ones_like(above[..., :1]), torch.zeros_like(above[..., :1])
        return torch.cat([all_of_it, above], dim=-1) - torch.cat([above, none], dim=-1)


class GeneTokens(nn.Module):
    """A token for each gene: its bin through a linear layer, plus its vector, through another one.

    Parameters
    ----------
    num_genes
        Number of genes N.
    d_model
        Width H of the tokens.
    bins
        Makes bins of expression.
    vectors
        Vectors of the genes, shape (N, D), which stay as they are; ``None`` to learn some of 200 numbers.
    """

    given: torch.Tensor | None

    def __init__(self, num_genes: int, d_model: int, bins: ExpressionBins, vectors: np.ndarray | None) -> None:
        super().__init__()
        self.bins = bins
        width = _LEARNED_WIDTH if vectors is None else vectors.shape[1]
        self.bin_projection = nn.Linear(bins.num_bins, width)
        self.register_buffer("given", None if vectors is None else torch.from_numpy(np.array(vectors, np.float32)))
        self.learned = nn.Embedding(num_genes, width) if vectors is None else None
        self.projection = nn.Linear(width, d_model)

    @property
    def gene_vectors(self) -> torch.Tensor:
        """The vectors, shape (N, D)."""
        if self.learned is not None:
            return self.learned.weight
        assert self.given is not None
        return self.given

    def forward(self, expression: torch.Tensor) -> torch.Tensor:
        """Make tokens of expression, (B, N) to (B, N, H)."""
        return self.projection(self.bin_projection(self.bins(expression)) + self.gene_vectors)


class GeneChunks(nn.Module):
    """A token for so many genes one after another, with a learned vector that tells which they are.

    Expression is standardised for each gene first, by :meth:`fit_scales`: regions differ little from the mean.

    Parameters
    ----------
    num_genes
        Number of genes G; the last chunk is filled up with zeros.
    chunk_size
        Genes of a token.
    d_model
        Width H of the tokens.
    tell_apart
        Whether there is that vector. Without it pooled tokens are a set of profiles of unknown genes.
    dropout
        Share of the genes of a region that a step of training does not see.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self, num_genes: int, chunk_size: int, d_model: int, *, tell_apart: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.chunk_size = chunk_size
        self.num_tokens = -(-num_genes // chunk_size)
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(chunk_size, d_model)
        self.chunk_embedding = nn.Embedding(self.num_tokens, d_model) if tell_apart else None
        if self.chunk_embedding is not None:
            nn.init.normal_(self.chunk_embedding.weight, std=_CHUNK_SPREAD)
        self.register_buffer("mean", torch.zeros(num_genes))
        self.register_buffer("scale", torch.ones(num_genes))

    def fit_scales(self, expression: torch.Tensor) -> None:
        """Take the mean and standard deviation of each gene over some regions, shape (R, G)."""
        numbers = expression.double()
        mean, spread = numbers.mean(dim=0), numbers.std(dim=0, correction=0)
        is_constant = spread <= _LEAST_SPREAD * mean.abs()  # but for rounding, which must not become the signal
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(is_constant, 1, spread))

    def forward(self, expression: torch.Tensor) -> torch.Tensor:
        """Make tokens of expression, (B, G) to (B, T, H)."""
        missing = self.num_tokens * self.chunk_size - expression.shape[1]
        scaled = self.dropout((expression - self.mean) / self.scale)
        chunks = functional.pad(scaled, (0, missing)).unflatten(1, (self.num_tokens, self.chunk_size))
        tokens = self.projection(chunks)
        return tokens if self.chunk_embedding is None else tokens + self.chunk_embedding.weight
