"""ScDiVa: a variational transformer encoder of expression profiles with heads for integration and annotation.

A profile x of G genes becomes one hidden vector, goes through post-norm transformer blocks and gives a normal posterior
N(mu, sigma^2) of a latent vector z, from which the profile is reconstructed or the cell type named. The loss is that of
the task plus beta times the divergence of the posterior from N(0, 1) (Kingma and Welling 2013, arXiv:1312.6114). The
model published under the same name (arXiv:2602.03477) is another one. Where we fill gaps or differ:

- In evaluation z = mu, so that prediction and embedding are of one latent vector and the same each time.
- With one token per cell (``tokenization: profile``) attention is a linear map: the softmax of one score is 1, queries
  and keys are never trained, and attention captures no interaction of genes. ``patch`` makes a token of each of
  ``num_patches`` blocks of genes, with the same weights and a vector for each block, so that attention mixes blocks.
- The width of the feed-forward layers is not stated: 4,096 in Base and 6,400 in Large give 344 and 1,502 million
  parameters with 100 cell types, beside the stated 350 and 1,500.
- Tokens of a cell are read as the profile they stand for. With ``labels`` genes are hidden, and only they are scored;
  genes that had no room in the sequence are unknown, not zero.
- ``kl_warmup_steps`` and ``free_bits`` keep the posterior from collapsing onto the prior: the divergence is a sum over
  latent dimensions, the error of reconstruction a mean over genes.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from scmodelforge._errors import ConfigError, nearest
from scmodelforge.config.own import own_settings
from scmodelforge.config.schema import ModelConfig
from scmodelforge.models._scdiva_config import ANNOTATION, PRESETS, ScDiVaConfig
from scmodelforge.models._scdiva_input import read_profiles
from scmodelforge.models._scdiva_losses import annotation_term, reconstruction_term
from scmodelforge.models._scdiva_parts import (
    VariationalEncoder,
    active_units,
    flop_parts,
    initialise,
    kl_divergence,
    latent_head,
    without_effect,
)
from scmodelforge.models._utils import count_parameters, required_vocab_size, warmup_share
from scmodelforge.models.components.blocks import Trace, with_trace
from scmodelforge.models.components.flops import forward_flops
from scmodelforge.models.components.special_tokens import DEFAULT_SPECIAL_IDS
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.models.registry import register_model

__all__ = ["ScDiVa", "ScDiVaConfig", "active_units", "kl_divergence"]

_TASKS = ("annotation", "integration")
_TOKENIZATIONS = ("profile", "patch")


@register_model("scdiva")
class ScDiVa(nn.Module):
    """Variational transformer encoder of expression profiles.

    Parameters
    ----------
    vocab_size
        Number of genes G, i.e. of tokens, special ones included.
    hidden_dim
        Width H of the hidden states.
    num_layers
        Number of transformer blocks.
    num_heads
        Attention heads; they divide ``hidden_dim``.
    latent_dim
        Width d of the latent vector and of the embedding of a cell.
    ffn_dim
        Width inside the feed-forward layers; ``None`` is four times ``hidden_dim``.
    dropout
        Dropout on the tokens, on what each branch of a block adds and in the annotation head.
    num_cell_types
        Number of cell types C of the annotation head; ``None`` makes no such head.
    beta
        Weight of the divergence; may be set later.
    tokenization
        ``profile`` makes one token of a cell, ``patch`` one of each block of genes.
    num_patches
        Number of blocks P.
    layer_norm_eps
        Epsilon of the layer norms.
    max_seq_len
        Longest sequence of tokens it takes, which nothing in the model depends on; ``None`` takes any.
    kl_warmup_steps
        Steps in which the weight of the divergence rises from 0 to ``beta``, in training only. :meth:`set_step` tells
        the step.
    free_bits
        What each latent dimension of each cell counts at least, in nats: :func:`kl_divergence`.

    Raises
    ------
    ConfigError
        If ``hidden_dim`` does not fit the heads, ``beta`` is below 0, or there is no such tokenization.
    """

    config_class: ClassVar[type[ScDiVaConfig]] = ScDiVaConfig
    default_objective: ClassVar[str] = "masked_value_prediction"
    value_masking: ClassVar[str] = "no effect"
    logits_of: ClassVar[str] = "genes"
    allowed_objectives: ClassVar[tuple[str, ...]] = ("masked_value_prediction", ANNOTATION)
    pretraining_parts: ClassVar[tuple[str, ...]] = ("annotation_head", "integration_head")
    unused_settings: ClassVar[frozenset[str]] = frozenset(
        {"activation", "n_bins", "gene_loss_weight", "expression_loss_weight"}
        | {"decoder_dim", "decoder_layers", "decoder_heads"}
    )
    # A token that sees nothing but itself needs no queries and keys.
    untrained_weights: ClassVar[frozenset[str]] = frozenset(
        {f"encoder.transformer.layers.*.attention.{part}" for part in ("q.weight", "q.bias", "k.weight", "k.bias")}
    )

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int = 1024,
        num_layers: int = 24,
        num_heads: int = 16,
        latent_dim: int = 128,
        *,
        ffn_dim: int | None = None,
        dropout: float = 0.1,
        num_cell_types: int | None = None,
        beta: float = 0.01,
        tokenization: str = "profile",
        num_patches: int = 16,
        layer_norm_eps: float = 1e-12,
        max_seq_len: int | None = None,
        kl_warmup_steps: int = 0,
        free_bits: float = 0.0,
    ) -> None:
        super().__init__()
        _check(beta, tokenization)
        self.vocab_size, self.hidden_dim, self.latent_dim = vocab_size, hidden_dim, latent_dim
        self.num_cell_types, self.max_seq_len = num_cell_types, max_seq_len
        self.beta, self.kl_warmup_steps, self.free_bits = float(beta), kl_warmup_steps, free_bits
        self.special_ids = DEFAULT_SPECIAL_IDS
        self._step: int | None = None
        self.encoder = VariationalEncoder(
            vocab_size,
            hidden_dim,
            num_layers,
            num_heads,
            latent_dim,
            ffn_dim=ffn_dim,
            dropout=dropout,
            num_patches=num_patches if tokenization == "patch" else None,
            layer_norm_eps=layer_norm_eps,
        )
        self.annotation_head: nn.Module | None = None
        if num_cell_types is not None:
            self.annotation_head = latent_head(latent_dim, hidden_dim, num_cell_types, dropout=dropout)
        self.integration_head = latent_head(latent_dim, hidden_dim, vocab_size)
        self.apply(initialise)

    @property
    def fixed_vocabulary(self) -> str | None:
        """Why no genes can be added, where that is so: blocks of genes are divided anew by their number."""
        if self.encoder.gene_encoder.num_patches is None:
            return None
        return (
            "model.tokenization is 'patch', whose blocks of genes would be others with more genes; train a model of "
            "the new vocabulary, or use tokenization 'profile'."
        )

    @property
    def embedding_dim(self) -> int:
        """Width of embeddings."""
        return self.latent_dim

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> ScDiVa:
        """Make a model of a stated size.

        Parameters
        ----------
        name
            ``base`` or ``large``.
        **overrides
            Arguments of the class that are to differ, or that a size says nothing of, such as ``num_cell_types``.

        Raises
        ------
        ConfigError
            If there is no such size.
        """
        if name not in PRESETS:
            msg = f"unknown preset {name!r}.{nearest(name, PRESETS)} Choose one of {', '.join(PRESETS)}."
            raise ConfigError(msg)
        arguments: dict[str, Any] = {**PRESETS[name], **overrides}
        return cls(**arguments)

    @classmethod
    def from_config(cls, config: ModelConfig) -> ScDiVa:
        """Make a model from settings.

        Parameters
        ----------
        config
            Settings with ``vocab_size`` set, plain ones or :class:`ScDiVaConfig`.

        Raises
        ------
        ValueError
            If ``vocab_size`` is not set, or a setting asks for what the model cannot do.
        """
        if config.pooling not in (None, "mean"):
            msg = f"model.pooling is '{config.pooling}', but scdiva always averages; set it to 'mean' or leave it out."
            raise ConfigError(msg)
        if not config.use_expression_values:
            msg = "model.use_expression_values is false, but scdiva reads nothing else; set it to true or leave it out."
            raise ConfigError(msg)
        own: ScDiVaConfig = own_settings("model", "scdiva", config, ScDiVaConfig)
        return cls(
            vocab_size=required_vocab_size(own),
            hidden_dim=own.hidden_dim,
            num_layers=own.num_layers,
            num_heads=own.num_heads,
            latent_dim=own.latent_dim,
            ffn_dim=own.ffn_dim,
            dropout=own.dropout,
            num_cell_types=own.num_cell_types,
            beta=own.beta,
            tokenization=own.tokenization,
            num_patches=own.num_patches,
            layer_norm_eps=own.layer_norm_eps,
            max_seq_len=own.max_seq_len,
            kl_warmup_steps=own.kl_warmup_steps,
            free_bits=own.free_bits,
        )

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        *,
        expression: torch.Tensor | None = None,
        cell_types: torch.Tensor | None = None,
        task: str | None = None,
        targets: torch.Tensor | None = None,
        masked_positions: torch.Tensor | None = None,
        return_logits: bool = True,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        **ignored: Any,
    ) -> ModelOutput:
        """Reconstruct the profile of each cell, or name its cell type, with the loss where there is something to learn.

        Parameters
        ----------
        input_ids
            Token ids, shape (B, S). Special tokens, padding and hidden tokens add nothing to the profile.
        attention_mask
            1 for real tokens and 0 for padding, shape (B, S), of any type; ``None`` takes all for real.
        values
            Expression values, shape (B, S). ``None`` stands for zeros.
        labels
            Hidden genes, -100 where nothing is hidden, shape (B, S); they alone are scored.
        expression
            The whole profile instead of tokens, shape (B, G); without ``labels`` all of it is scored.
        cell_types
            Classes, -100 where unknown, shape (B,).
        task
            ``annotation`` or ``integration``; by default the former if ``cell_types`` are given.
        targets
            True values of the hidden genes, shape (B, S); by default what ``values`` or ``expression`` have for them.
        masked_positions
            Further hidden positions, shape (B, S), bool or 0 and 1.
        return_logits
            Without it ``logits`` is ``None``.
        output_hidden_states, output_attentions
            Give ``hidden_states``, ``attentions`` of the blocks.
        **ignored
            Other keys of the batch, not used.

        Returns
        -------
        ``logits``, the reconstruction, shape (B, G), or scores of cell types, shape (B, C); ``embeddings``, the
        posterior mean, shape (B, d); and with something to learn ``loss``. Its terms are the mean squared error over
        the labelled genes (``masked_value``) or all genes (``recon``), or the cross-entropy over the cells with a
        class (``annotation``), and ``kl``, the mean divergence over the cells times its weight.

        Raises
        ------
        ConfigError
            If there is no such task or no annotation head, sequences are too long, or a warm-up does not know the step.
        DataError
            If there is no input, a profile of another width, or a token, gene or class that does not exist.
        """
        task = _chosen(task, cell_types)
        cells = read_profiles(
            self, input_ids, attention_mask, values, expression, labels=labels, masked_positions=masked_positions
        )
        trace = Trace.asked(states=output_hidden_states, maps=output_attentions)
        mu, logvar = self.encoder(cells.profile, trace=trace)
        asked = (cell_types,) if task == "annotation" else (labels, expression)
        is_asked = any(tensor is not None for tensor in asked)
        if not is_asked and not return_logits:
            return with_trace(ModelOutput(embeddings=mu), trace)
        latent = self.reparameterize(mu, logvar)
        logits = self.classify(latent) if task == "annotation" else self.reconstruct(latent)
        if not is_asked:
            return with_trace(ModelOutput(logits=logits, embeddings=mu), trace)
        if task == "annotation":
            terms = annotation_term(logits, cell_types)
        else:
            terms = reconstruction_term(logits, cells.truth if targets is None else targets, labels, expression)
        idle = self.integration_head if task == "annotation" else self.annotation_head
        share = warmup_share(self._step, self.kl_warmup_steps) if self.training else 1.0
        divergence = kl_divergence(mu, logvar, free_bits=self.free_bits)
        terms["kl"] = self.beta * share * divergence + without_effect(idle)
        loss = torch.stack(list(terms.values())).sum()
        return with_trace(
            ModelOutput(loss=loss, logits=logits if return_logits else None, embeddings=mu, loss_terms=terms), trace
        )

    def encode(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        values: torch.Tensor | None = None,
        *,
        expression: torch.Tensor | None = None,
        **ignored: Any,
    ) -> torch.Tensor:
        """Embed cells with nothing hidden: the mean of the posterior, shape (B, d). Parameters as of ``forward``."""
        return self.posterior(input_ids, attention_mask, values, expression=expression)[0]

    def posterior(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        values: torch.Tensor | None = None,
        *,
        expression: torch.Tensor | None = None,
        **ignored: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and logarithm of the variance of each cell's latent vector, shape (B, d), with nothing hidden.

        ``exp(logvar / 2)`` says how sure the model is of each dimension. Parameters as of ``forward``.
        """
        cells = read_profiles(self, input_ids, attention_mask, values, expression)
        return self.encoder(cells.profile)

    def reparameterize(self, mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
        """Draw latent vectors from posteriors in training, and take their means in evaluation; all of shape (B, d)."""
        if not self.training:
            return mu
        return mu + (logvar / 2).exp() * torch.randn_like(mu)

    def classify(self, latent: torch.Tensor) -> torch.Tensor:
        """Score cell types, shape (B, C), of latent vectors, shape (B, d).

        Raises
        ------
        ConfigError
            If the model has no annotation head.
        """
        if self.annotation_head is None:
            msg = (
                "annotation needs to know the number of cell types, but model.num_cell_types is not set; set it, or "
                "train with model.pretraining_task 'cell_type_annotation'."
            )
            raise ConfigError(msg)
        return self.annotation_head(latent)

    def score_cell_types(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        values: torch.Tensor | None = None,
        *,
        expression: torch.Tensor | None = None,
        **ignored: Any,
    ) -> torch.Tensor:
        """Score cell types, shape (B, C), of the means of posteriors. Parameters as of ``encode``."""
        return self.classify(self.posterior(input_ids, attention_mask, values, expression=expression)[0])

    def reconstruct(self, latent: torch.Tensor) -> torch.Tensor:
        """Give profiles, shape (B, G), of latent vectors, shape (B, d)."""
        return self.integration_head(latent)

    def forward_flops(self, batch: dict[str, Any]) -> int:
        """Return the FLOPs of one pass forward on a batch on the host: :func:`forward_flops`."""
        return forward_flops(self, flop_parts(self.encoder, is_annotation="cell_types" in batch), batch)

    def set_step(self, step: int) -> None:
        """Tell the optimiser steps done, on which a warm-up depends. The training loop does so before each step."""
        self._step = step

    def num_parameters(self, trainable_only: bool = True) -> int:
        """Count the parameters, all of them or those that are trained."""
        return count_parameters(self, trainable_only=trainable_only)


def _chosen(task: str | None, cell_types: torch.Tensor | None) -> str:
    if task is None:
        return "integration" if cell_types is None else "annotation"
    if task not in _TASKS:
        msg = f"unknown task {task!r}.{nearest(task, _TASKS)} Choose one of {', '.join(_TASKS)}."
        raise ConfigError(msg)
    return task


def _check(beta: float, tokenization: str) -> None:
    if not beta >= 0:
        msg = f"model.beta is {beta}; a weight of 0 or more is needed."
        raise ConfigError(msg)
    if tokenization not in _TOKENIZATIONS:
        msg = (
            f"unknown model.tokenization {tokenization!r}.{nearest(tokenization, _TOKENIZATIONS)} Choose one of "
            f"{', '.join(_TOKENIZATIONS)}."
        )
        raise ConfigError(msg)
