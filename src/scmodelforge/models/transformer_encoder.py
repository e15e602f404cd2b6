"""A bidirectional transformer that predicts hidden genes from the genes around them.

The scheme is BERT's (Devlin et al. 2019, doi:10.18653/v1/N19-1423), brought to cells by scBERT (Yang et al. 2022,
doi:10.1038/s42256-022-00534-z) and Geneformer (Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9). Differences:

- Pre-norm blocks and a final layer norm, where these models normalise after each addition: deep stacks train without
  a long warm-up.
- A token's expression value is projected and added to its embedding (``use_expression_values``).
- Dropout acts on the embedding and on what the branches add, not on attention weights unless asked for.
- The prediction head has its own output weights, not those of the gene embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from scmodelforge.models._utils import count_parameters, init_weights, required_vocab_size
from scmodelforge.models.components.embeddings import GeneExpressionEmbedding, blank_padding
from scmodelforge.models.components.heads import MaskedGenePredictionHead
from scmodelforge.models.components.losses import gathered_cross_entropy, masked_cross_entropy
from scmodelforge.models.components.pooling import get_pooling
from scmodelforge.models.components.transformer import TransformerStack
from scmodelforge.models.config import TransformerConfig
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.models.registry import register_model

if TYPE_CHECKING:
    from scmodelforge.config.schema import ModelConfig

__all__ = ["TransformerEncoder"]


@register_model("transformer_encoder")
class TransformerEncoder(nn.Module):
    """Bidirectional transformer with masked gene prediction.

    Pre-norm blocks are followed by a final layer norm; prediction and pooling read its output.

    Parameters
    ----------
    vocab_size
        Number of tokens V, special ones included.
    hidden_dim
        Width H of the hidden states.
    num_layers
        Number of transformer blocks.
    num_heads
        Attention heads; they divide ``hidden_dim``.
    ffn_dim
        Width inside the feed-forward layers; ``None`` is four times ``hidden_dim``.
    dropout
        Dropout on the embedding and on what each branch of a block adds.
    max_seq_len
        Longest sequence.
    pooling
        How a cell embedding is made: ``cls`` takes the first token, ``mean`` averages over the real tokens.
    activation
        Activation of the feed-forward layers: ``gelu``, ``relu`` or ``silu``.
    use_expression_values
        Add a projection of each token's expression value to its embedding.
    layer_norm_eps
        Epsilon of the layer norms.
    attention_dropout
        Dropout on the attention weights.
    """

    config_class: ClassVar[type[TransformerConfig]] = TransformerConfig
    default_objective: ClassVar[str] = "masked_gene_prediction"
    default_pooling: ClassVar[str] = "cls"
    allowed_objectives: ClassVar[tuple[str, ...]] = ("masked_gene_prediction",)
    unused_settings: ClassVar[frozenset[str]] = frozenset(
        {"n_bins", "gene_loss_weight", "expression_loss_weight", "decoder_dim", "decoder_layers", "decoder_heads"}
    )

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        ffn_dim: int | None = None,
        dropout: float = 0.1,
        max_seq_len: int = 2048,
        pooling: str = "cls",
        activation: str = "gelu",
        use_expression_values: bool = True,
        layer_norm_eps: float = 1e-12,
        *,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.hidden_dim = hidden_dim
        self.pooling = pooling
        self._pool = get_pooling(pooling)
        self.embedding = GeneExpressionEmbedding(
            vocab_size,
            hidden_dim,
            max_seq_len=max_seq_len,
            dropout=dropout,
            use_expression_values=use_expression_values,
            layer_norm_eps=layer_norm_eps,
        )
        self.encoder = TransformerStack(
            hidden_dim,
            num_layers,
            num_heads,
            ffn_dim=ffn_dim,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation=activation,
            layer_norm_eps=layer_norm_eps,
        )
        self.head = MaskedGenePredictionHead(hidden_dim, vocab_size, layer_norm_eps=layer_norm_eps)
        self.apply(init_weights)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        *,
        return_logits: bool = True,
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
        **kwargs
            Other keys of the batch, not used.

        Returns
        -------
        ``logits``, shape (B, S, V), ``embeddings``, shape (B, H), and with labels ``loss``: the mean cross-entropy
        over the labelled positions in nats, 0 if there are none.
        """
        hidden = self._hidden_states(input_ids, attention_mask, values)  # (B, S, H)
        logits = self.head(hidden) if return_logits else None  # (B, S, V)
        embeddings = self._pool(hidden, attention_mask)  # (B, H)
        if labels is None:
            return ModelOutput(logits=logits, embeddings=embeddings)
        if logits is None:
            loss = gathered_cross_entropy(hidden, labels, self.head)
        else:
            loss = masked_cross_entropy(logits, labels)
        return ModelOutput(loss=loss, logits=logits, embeddings=embeddings, loss_terms={"masked_gene": loss})

    def encode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Embed cells: the embeddings of ``forward``, without predictions.

        Parameters
        ----------
        input_ids
            Token ids, shape (B, S).
        attention_mask
            1 for real tokens and 0 for padding, shape (B, S), of any type.
        values
            Expression values, shape (B, S). ``None`` stands for zeros.
        **kwargs
            Other keys of the batch, not used.

        Returns
        -------
        Cell embeddings, shape (B, H).
        """
        return self._pool(self._hidden_states(input_ids, attention_mask, values), attention_mask)

    @classmethod
    def from_config(cls, config: ModelConfig) -> TransformerEncoder:
        """Make a model from settings.

        Parameters
        ----------
        config
            Settings with ``vocab_size`` set, plain ones or :class:`TransformerConfig`.

        Raises
        ------
        ValueError
            If ``vocab_size`` is not set.
        """
        return cls(
            vocab_size=required_vocab_size(config),
            hidden_dim=config.hidden_dim,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            ffn_dim=config.ffn_dim,
            dropout=config.dropout,
            max_seq_len=config.max_seq_len,
            pooling=config.pooling or cls.default_pooling,
            activation=config.activation,
            use_expression_values=config.use_expression_values,
            layer_norm_eps=config.layer_norm_eps,
            attention_dropout=config.attention_dropout if isinstance(config, TransformerConfig) else 0.0,
        )

    def num_parameters(self, trainable_only: bool = True) -> int:
        """Count the parameters, all of them or those that are trained."""
        return count_parameters(self, trainable_only=trainable_only)

    def _hidden_states(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, values: torch.Tensor | None
    ) -> torch.Tensor:
        input_ids, values = blank_padding(input_ids, values, attention_mask)
        return self.encoder(self.embedding(input_ids, values), attention_mask)
