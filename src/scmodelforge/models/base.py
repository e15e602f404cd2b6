"""What the built-in models share."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from scmodelforge.config.schema import ModelConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models._utils import count_parameters
from scmodelforge.models.components.blocks import Trace, with_trace
from scmodelforge.models.components.embeddings import GeneExpressionEmbedding
from scmodelforge.models.components.flops import Parts, forward_flops
from scmodelforge.models.components.losses import gathered_cross_entropy, masked_cross_entropy
from scmodelforge.models.components.pooling import Pooling
from scmodelforge.models.config import TransformerConfig
from scmodelforge.models.protocol import ModelOutput

__all__ = ["CellModel", "MaskedGeneModel", "transformer_arguments"]


class CellModel(nn.Module):
    """A model whose cell embedding is a pooling of the hidden states of tokens that all see each other.

    A subclass sets ``_pool`` and gives ``_hidden_states``.
    """

    _pool: Pooling

    def forward_flops(self, batch: dict[str, Any]) -> int:
        """Return the FLOPs of one pass forward on a batch on the host: :func:`forward_flops`."""
        return forward_flops(self, self.flop_parts, batch)

    @property
    def flop_parts(self) -> Parts:
        """What a pass of training computes on: tokens are embedded and transformed, heads read targets."""
        heads = ("head", "gene_head", "bin_input", "bin_head", "count_head")
        return [("embedding", "tokens"), ("encoder", "tokens"), *((name, "targets") for name in heads)]

    def encode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Embed cells with nothing hidden, each token seeing the whole cell.

        Parameters
        ----------
        input_ids
            Token ids, shape (B, S).
        attention_mask
            1 for real tokens and 0 for padding, shape (B, S), of any type. What stands at padding has no effect.
        values
            Expression values, shape (B, S). ``None`` stands for zeros.
        **kwargs
            Other keys of the batch, not used.

        Returns
        -------
        Cell embeddings, shape (B, H).
        """
        return self.encode_tokens(input_ids, attention_mask, values, **kwargs)[0]

    def encode_tokens(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed cells and their tokens in one pass, with nothing hidden, each token seeing the whole cell.

        The parameters are those of :meth:`encode`.

        Returns
        -------
        Cell embeddings, shape (B, H), and hidden states of tokens, shape (B, S, H). Those at padding mean nothing.
        """
        return self._cells_and_tokens(input_ids, attention_mask, values)

    def _cells_and_tokens(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, values: torch.Tensor | None, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings of cells and of tokens; options are those of ``_hidden_states``."""
        hidden = self._hidden_states(input_ids, attention_mask, values, **options)
        return self._pool(hidden, attention_mask), hidden

    def num_parameters(self, trainable_only: bool = True) -> int:
        """Count the parameters, all of them or those that are trained."""
        return count_parameters(self, trainable_only=trainable_only)

    def _hidden_states(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None,
        *,
        trace: Trace | None = None,
    ) -> torch.Tensor:
        """Return the hidden state of every token, shape (B, S, H), without effect of what stands at padding.

        ``trace`` gets what else is asked for of the layers on the way.
        """
        raise NotImplementedError


class MaskedGeneModel(CellModel):
    """A model that predicts hidden genes, each from the hidden state at its position.

    A subclass gives ``embedding`` and ``head`` beside what :class:`CellModel` needs.
    """

    embedding: GeneExpressionEmbedding
    head: nn.Module

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        *,
        return_logits: bool = True,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> ModelOutput:
        """Predict the gene of every position, with the loss when labels are given.

        Parameters
        ----------
        input_ids
            Token ids, shape (B, S).
        attention_mask
            1 for real tokens and 0 for padding, shape (B, S), of any type. What stands at padding has no effect.
        values
            Expression values, shape (B, S). ``None`` stands for zeros.
        labels
            True token ids, -100 where there is nothing to predict, shape (B, S).
        return_logits
            Without it only the labelled positions are predicted and ``logits`` is ``None``: the same loss for less.
        output_hidden_states, output_attentions
            Give ``hidden_states``, ``attentions``.
        **kwargs
            Other keys of the batch, not used.

        Returns
        -------
        ``logits``, shape (B, S, V), ``embeddings``, shape (B, H), and with labels ``loss``: the mean cross-entropy
        over the labelled positions in nats, 0 if there are none.

        Raises
        ------
        ConfigError
            If the sequences are longer than ``max_seq_len``.
        DataError
            If a token or a label is not in the vocabulary; checked on the CPU only.
        """
        trace = Trace.asked(states=output_hidden_states, maps=output_attentions)
        embeddings, hidden = self._cells_and_tokens(input_ids, attention_mask, values, **Trace.given(trace))
        logits = self.head(hidden) if return_logits else None  # (B, S, V)
        if labels is None:
            return with_trace(ModelOutput(logits=logits, embeddings=embeddings), trace)
        self.embedding.check_ids(labels.masked_fill(labels == IGNORE_INDEX, 0))
        if logits is None:
            loss = gathered_cross_entropy(hidden, labels, self.head)
        else:
            loss = masked_cross_entropy(logits, labels)
        output = ModelOutput(loss=loss, logits=logits, embeddings=embeddings, loss_terms={"masked_gene": loss})
        return with_trace(output, trace)


def transformer_arguments(config: ModelConfig, *, default_pooling: str) -> dict[str, Any]:
    """Return the arguments of a transformer that settings of all of them are named after.

    Parameters
    ----------
    config
        The settings; plain ones are completed with the defaults of :class:`TransformerConfig`.
    default_pooling
        The pooling where ``config.pooling`` is not set.
    """
    own = config if isinstance(config, TransformerConfig) else TransformerConfig()
    return {
        "ffn_dim": config.ffn_dim,
        "dropout": config.dropout,
        "max_seq_len": config.max_seq_len,
        "pooling": config.pooling or default_pooling,
        "activation": config.activation,
        "use_expression_values": config.use_expression_values,
        "layer_norm_eps": config.layer_norm_eps,
        "attention_dropout": own.attention_dropout,
        "norm_placement": own.norm_placement,
        "norm": own.norm,
        "activation_checkpointing": own.activation_checkpointing,
    }
