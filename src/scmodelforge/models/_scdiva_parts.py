"""Parts of ScDiVa: from the profile of a cell to tokens, the latent space and its measures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from scmodelforge.models.components.blocks import Trace
from scmodelforge.models.components.flops import Parts
from scmodelforge.models.components.transformer import TransformerStack

__all__ = [
    "GeneExpressionEncoder",
    "VariationalEncoder",
    "active_units",
    "flop_parts",
    "initialise",
    "kl_divergence",
    "latent_head",
    "scatter_profile",
    "without_effect",
]

_INITIAL_STD = 0.02


class GeneExpressionEncoder(nn.Module):
    """A linear map of the profile, layer norm and dropout: one token for all genes, or one for each block of them.

    With blocks (``num_patches`` P) token p is W[:, block p] x[block p] + bias + a vector of the block's own: all
    weights but these vectors are those of the map of the whole profile. Without the vectors the norm would take away
    how much is expressed in a block.

    Parameters
    ----------
    num_genes
        Width G of the profile.
    hidden_dim
        Width H of the tokens.
    num_patches
        Number of blocks of consecutive genes, of equal size where it divides G; ``None`` makes one token without a
        vector of its own.
    dropout
        Dropout after the norm.
    layer_norm_eps
        Epsilon of the norm.
    """

    def __init__(
        self, num_genes: int, hidden_dim: int, *, num_patches: int | None, dropout: float, layer_norm_eps: float
    ) -> None:
        super().__init__()
        self.num_patches = num_patches
        self.projection = nn.Linear(num_genes, hidden_dim)
        self.patch_embedding = None if num_patches is None else nn.Parameter(torch.empty(num_patches, hidden_dim))
        self.layer_norm = nn.LayerNorm(hidden_dim, eps=layer_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, profile: torch.Tensor) -> torch.Tensor:
        """Make tokens, shape (B, P, H), of profiles, shape (B, G); P is 1 without blocks."""
        profile = profile.to(self.layer_norm.weight.dtype)
        if self.num_patches is None or self.patch_embedding is None:
            projected = self.projection(profile).unsqueeze(1)  # (B, 1, H)
        else:
            weights = self.projection.weight.tensor_split(self.num_patches, dim=1)
            parts = zip(profile.tensor_split(self.num_patches, dim=1), weights, strict=True)
            blocks = torch.stack([F.linear(*part) for part in parts], dim=1)  # (B, P, H)
            projected = blocks + (self.projection.bias + self.patch_embedding)
        return self.dropout(self.layer_norm(projected))


class VariationalEncoder(nn.Module):
    """From profiles to posteriors: tokens, post-norm transformer blocks, the mean over tokens, mean and log-variance.

    Parameters
    ----------
    num_genes, hidden_dim, num_patches
        As of :class:`GeneExpressionEncoder`.
    num_layers, num_heads, ffn_dim
        Of the transformer blocks.
    latent_dim
        Width d of the latent vector.
    dropout
        Dropout on the tokens and on what each branch of a block adds.
    layer_norm_eps
        Epsilon of the norms.
    """

    def __init__(
        self,
        num_genes: int,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        latent_dim: int,
        *,
        ffn_dim: int | None,
        dropout: float,
        num_patches: int | None,
        layer_norm_eps: float,
    ) -> None:
        super().__init__()
        self.gene_encoder = GeneExpressionEncoder(
            num_genes, hidden_dim, num_patches=num_patches, dropout=dropout, layer_norm_eps=layer_norm_eps
        )
        self.transformer = TransformerStack(
            hidden_dim,
            num_layers,
            num_heads,
            ffn_dim=ffn_dim,
            dropout=dropout,
            layer_norm_eps=layer_norm_eps,
            norm_placement="post",
        )
        self.to_mu, self.to_logvar = nn.Linear(hidden_dim, latent_dim), nn.Linear(hidden_dim, latent_dim)

    def forward(self, profile: torch.Tensor, *, trace: Trace | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and logarithm of the variance, each of shape (B, d), of profiles, shape (B, G)."""
        hidden = self.transformer(self.gene_encoder(profile), trace=trace).mean(dim=1)  # (B, H)
        return self.to_mu(hidden), self.to_logvar(hidden)


def flop_parts(encoder: VariationalEncoder, *, is_annotation: bool) -> Parts:
    """Return what a pass of training computes on: one profile for each cell, and the tokens made of it."""
    tokens = encoder.gene_encoder.num_patches or 1
    head = "annotation_head" if is_annotation else "integration_head"
    once = ("encoder.gene_encoder", "encoder.to_mu", "encoder.to_logvar", head)
    return [("encoder.transformer", tokens), *((name, 1) for name in once)]


def scatter_profile(
    input_ids: torch.Tensor, values: torch.Tensor | None, is_read: torch.Tensor, *, num_genes: int
) -> torch.Tensor:
    """Lay the values of tokens into the columns of their genes.

    Parameters
    ----------
    input_ids
        Token ids, shape (B, S).
    values
        Expression values, shape (B, S). ``None`` stands for zeros.
    is_read
        Tokens that count, shape (B, S), bool. What stands at the others has no effect.
    num_genes
        Number of columns G.

    Returns
    -------
    Profiles, shape (B, G), in single precision at least. Values of a gene that comes more than once are added up.
    """
    if values is None:
        return torch.zeros(len(input_ids), num_genes, device=input_ids.device)
    shown = values.to(torch.promote_types(values.dtype, torch.float32)).masked_fill(~is_read, 0)
    empty = shown.new_zeros(len(input_ids), num_genes)
    return empty.scatter_add(1, input_ids.masked_fill(~is_read, 0), shown)


def kl_divergence(mu: torch.Tensor, logvar: torch.Tensor, *, free_bits: float = 0.0) -> torch.Tensor:
    """Return how far the posteriors of cells are from the prior N(0, 1), in nats.

    -1/2 sum_d (1 + logvar - mu^2 - exp(logvar)), the mean over cells (Kingma and Welling 2013, arXiv:1312.6114).

    Parameters
    ----------
    mu, logvar
        Mean and logarithm of the variance of each latent dimension, shape (B, d).
    free_bits
        What each dimension of each cell counts at least, in nats, so that nothing is won by less (after Kingma et al.
        2016, arXiv:1606.04934, who take the mean over a batch first; here cells stay independent of each other).

    Returns
    -------
    Scalar in single precision at least; 0 without cells.
    """
    dtype = torch.promote_types(mu.dtype, torch.float32)
    mu, logvar = mu.to(dtype), logvar.to(dtype)
    each = -0.5 * (1 + logvar - mu.square() - logvar.exp())  # (B, d)
    if free_bits > 0:
        each = each.clamp(min=free_bits)
    return each.sum() / max(1, len(mu))


def active_units(mu: torch.Tensor, *, threshold: float = 0.01) -> int:
    """Count the latent dimensions that tell cells apart: those whose posterior mean varies between cells.

    Burda et al. 2015, arXiv:1509.00519. A count near 0 says that the posterior collapsed onto the prior.

    Parameters
    ----------
    mu
        Posterior means of many cells, shape (N, d), such as ``encode`` gives, or the rows of an embedding.
    threshold
        Variance over the cells from which on a dimension counts.
    """
    return int((torch.as_tensor(mu).float().var(dim=0, correction=0) > threshold).sum())


def latent_head(latent_dim: int, hidden_dim: int, num_outputs: int, *, dropout: float | None = None) -> nn.Sequential:
    """Make a head that reads the latent vector: linear, GELU, dropout (``None`` has none), linear."""
    drop = [] if dropout is None else [nn.Dropout(dropout)]
    return nn.Sequential(nn.Linear(latent_dim, hidden_dim), nn.GELU(), *drop, nn.Linear(hidden_dim, num_outputs))


def initialise(module: nn.Module) -> None:
    """Set the weights of one module to their first values: linear ones N(0, 0.02^2) with zero biases, norms 1 and 0.

    Vectors of blocks are drawn as the weights are. Use it as ``model.apply(initialise)``.
    """
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=_INITIAL_STD)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, GeneExpressionEncoder) and module.patch_embedding is not None:
        nn.init.normal_(module.patch_embedding, std=_INITIAL_STD)


def without_effect(module: nn.Module | None) -> torch.Tensor | float:
    """Return 0 with a graph to the weights of a part that takes no part: several devices wait for its gradients."""
    parameters = [] if module is None else [p for p in module.parameters() if p.requires_grad]
    return torch.stack([p.reshape(-1)[:0].sum() for p in parameters]).sum() if parameters else 0.0
