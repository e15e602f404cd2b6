"""Settings of scVI, and the network of scvi-tools."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge._optional import require
from scmodelforge.config.schema import ModelConfig

__all__ = ["UNUSED_SETTINGS", "SCVIConfig", "few_cells", "known_batches", "make_vae"]

Where = Literal["none", "encoder", "decoder", "both"]

#: Settings of all models that this one has no use for.
UNUSED_SETTINGS = frozenset(
    {
        "num_heads",
        "ffn_dim",
        "pooling",
        "activation",
        "layer_norm_eps",
        "n_bins",
        "gene_loss_weight",
        "expression_loss_weight",
        "decoder_dim",
        "decoder_layers",
        "decoder_heads",
    }
)


class SCVIConfig(ModelConfig):
    """Settings of scVI, with the defaults of scvi-tools."""

    hidden_dim: int = Field(128, gt=0)
    """Width of the hidden layers."""
    num_layers: int = Field(1, gt=0)
    """Hidden layers of the encoder, and as many of the decoder."""
    max_seq_len: int = Field(65_536, gt=0)
    """Longest sequence the model takes; it costs nothing."""
    latent_dim: int = Field(10, gt=0)
    """Width of the latent vector, which is the embedding of a cell."""
    use_batches: bool = False
    """Tell the decoder the batch of each cell (``data.batch_column``), so that the latent vector need not know it."""
    num_batches: int | None = Field(None, gt=0)
    """Number of batches; filled from the data where ``use_batches`` is true."""
    gene_likelihood: Literal["zinb", "nb", "poisson"] = "zinb"
    """Distribution of counts: negative binomial with or without further zeros, or Poisson."""
    dispersion: Literal["gene", "gene-cell"] = "gene"
    """Dispersion of a gene: one for all cells, or one for each cell."""
    use_batch_norm: Where = "both"
    """Where batch norm stands, which makes the loss of a cell depend on the others of its batch and device."""
    use_layer_norm: Where = "none"
    """Where layer norm stands."""
    kl_weight: float = Field(1.0, ge=0)
    """Weight of the divergence of q(z|x) from N(0, 1)."""
    kl_warmup_steps: int = Field(0, ge=0)
    """Optimiser steps in which that weight rises linearly from 0."""

    @property
    def counted_terms(self) -> dict[str, str]:
        """What each loss term is a mean over: cells, or those whose batch is known."""
        return dict.fromkeys(("reconstruction", "kl"), "batch_labels" if self.use_batches else "cells")


def known_batches(config: SCVIConfig) -> int:
    """Return the number of batches that a model with some settings tells apart, 1 if it knows none.

    Raises
    ------
    ConfigError
        If that number is needed and not set, or values are not to be read.
    """
    if not config.use_expression_values:
        msg = "model.use_expression_values is false, but scvi reads nothing else than counts; set it to true."
        raise ConfigError(msg)
    if not config.use_batches:
        return 1
    if config.num_batches is None:
        msg = "model.num_batches is not set, but model.use_batches is true; set it to the number of batches."
        raise ConfigError(msg)
    return config.num_batches


def make_vae(num_genes: int, num_batches: int, config: SCVIConfig) -> Any:
    """Make the network of scvi-tools with fresh weights; parts that nothing reads are not trained.

    Parameters
    ----------
    num_genes
        Number of genes G.
    num_batches
        Number of batches that the decoder is told of.
    config
        Further settings.

    Raises
    ------
    ImportError
        If scvi-tools is not installed.
    """
    scvi = require("scvi", extra="scvi", why="Model 'scvi'")
    vae = scvi.module.VAE(
        n_input=num_genes,
        n_batch=num_batches,
        n_hidden=config.hidden_dim,
        n_latent=config.latent_dim,
        n_layers=config.num_layers,
        dropout_rate=config.dropout,
        gene_likelihood=config.gene_likelihood,
        dispersion=config.dispersion,
        use_batch_norm=config.use_batch_norm,
        use_layer_norm=config.use_layer_norm,
    )
    has_dispersion, of_cells = config.gene_likelihood != "poisson", config.dispersion == "gene-cell"
    vae.l_encoder.requires_grad_(False)  # cells are scaled by their own totals
    vae.decoder.px_dropout_decoder.requires_grad_(config.gene_likelihood == "zinb")
    vae.decoder.px_r_decoder.requires_grad_(has_dispersion and of_cells)
    if not of_cells:
        vae.px_r.requires_grad_(has_dispersion)
    return vae


@contextmanager
def few_cells(module: nn.Module, number: int) -> Iterator[None]:
    """Let batch norm use its running statistics where a batch of so many cells has none of its own."""
    norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm1d) and each.training]
    if number > 1 or not norms:
        yield
        return
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
