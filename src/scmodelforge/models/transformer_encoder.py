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

from typing import TYPE_CHECKING, ClassVar

import torch

from scmodelforge.models._utils import init_weights, required_vocab_size
from scmodelforge.models.base import MaskedGeneModel, transformer_arguments
from scmodelforge.models.components.embeddings import GeneExpressionEmbedding, blank_padding
from scmodelforge.models.components.heads import MaskedGenePredictionHead
from scmodelforge.models.components.pooling import get_pooling
from scmodelforge.models.components.transformer import TransformerStack
from scmodelforge.models.config import TransformerConfig
from scmodelforge.models.registry import register_model

if TYPE_CHECKING:
    from scmodelforge.config.schema import ModelConfig

__all__ = ["TransformerEncoder"]


@register_model("transformer_encoder")
class TransformerEncoder(MaskedGeneModel):
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
            **transformer_arguments(config, default_pooling=cls.default_pooling),
        )

    def _hidden_states(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, values: torch.Tensor | None
    ) -> torch.Tensor:
        input_ids, values = blank_padding(input_ids, values, attention_mask)
        return self.encoder(self.embedding(input_ids, values), attention_mask)
