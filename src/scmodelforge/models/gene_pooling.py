"""A baseline without attention: every gene is transformed by itself, the cell is the mean of its genes.

A hidden gene is predicted from what remains at its own position (a replaced or unchanged id, and the position, which
is the rank after rank tokenization), so the loss it can reach is what a model that looks at no other gene can reach.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import ModelConfig
from scmodelforge.models._utils import init_weights, required_vocab_size
from scmodelforge.models.base import MaskedGeneModel
from scmodelforge.models.components.blocks import Trace
from scmodelforge.models.components.embeddings import GeneExpressionEmbedding, blank_padding
from scmodelforge.models.components.heads import MaskedGenePredictionHead
from scmodelforge.models.components.pooling import get_pooling
from scmodelforge.models.registry import register_model

__all__ = ["GenePoolingModel"]


@register_model("gene_pooling")
class GenePoolingModel(MaskedGeneModel):
    """Mean of gene embeddings behind feed-forward layers, without attention: a baseline.

    Parameters
    ----------
    vocab_size
        Number of tokens V, special ones included.
    hidden_dim
        Width H of embeddings and hidden states; the feed-forward layers are four times as wide inside.
    num_layers
        Number of feed-forward layers.
    dropout
        Dropout on the embedding and in the feed-forward layers.
    max_seq_len
        Longest sequence.
    use_expression_values
        Add a projection of each token's expression value to its embedding.
    layer_norm_eps
        Epsilon of the layer norms.
    """

    config_class: ClassVar[type[ModelConfig]] = ModelConfig
    default_objective: ClassVar[str] = "masked_gene_prediction"
    allowed_objectives: ClassVar[tuple[str, ...]] = ("masked_gene_prediction",)
    first_sees_cell: ClassVar[bool] = False
    pretraining_parts: ClassVar[tuple[str, ...]] = ("head",)
    unused_settings: ClassVar[frozenset[str]] = frozenset(
        {
            "num_heads",
            "ffn_dim",
            "activation",
            "n_bins",
            "gene_loss_weight",
            "expression_loss_weight",
            "decoder_dim",
            "decoder_layers",
            "decoder_heads",
        }
    )

    # The value at a target is hidden and no other position is looked at: in training this weight is multiplied by 0.
    untrained_weights: ClassVar[frozenset[str]] = frozenset({"embedding.value_projection.weight"})

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int,
        num_layers: int = 2,
        dropout: float = 0.1,
        max_seq_len: int = 2048,
        *,
        use_expression_values: bool = True,
        layer_norm_eps: float = 1e-12,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.hidden_dim = hidden_dim
        self._pool = get_pooling("mean")
        self.embedding = GeneExpressionEmbedding(
            vocab_size,
            hidden_dim,
            max_seq_len=max_seq_len,
            dropout=dropout,
            use_expression_values=use_expression_values,
            layer_norm_eps=layer_norm_eps,
        )
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(hidden_dim, 4 * hidden_dim),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(4 * hidden_dim, hidden_dim),
                nn.Dropout(dropout),
                nn.LayerNorm(hidden_dim, eps=layer_norm_eps),
            )
            for _ in range(num_layers)
        )
        self.head = MaskedGenePredictionHead(hidden_dim, vocab_size, layer_norm_eps=layer_norm_eps)
        self.apply(init_weights)

    @classmethod
    def from_config(cls, config: ModelConfig) -> GenePoolingModel:
        """Make a model from settings.

        Parameters
        ----------
        config
            Settings with ``vocab_size`` set.

        Raises
        ------
        ValueError
            If ``vocab_size`` is not set, or ``pooling`` asks for another pooling than the mean.
        """
        if config.pooling not in (None, "mean"):
            msg = (
                f"model.pooling is '{config.pooling}', but gene_pooling always averages; "
                "set it to 'mean' or leave it out."
            )
            raise ConfigError(msg)
        return cls(
            vocab_size=required_vocab_size(config),
            hidden_dim=config.hidden_dim,
            num_layers=config.num_layers,
            dropout=config.dropout,
            max_seq_len=config.max_seq_len,
            use_expression_values=config.use_expression_values,
            layer_norm_eps=config.layer_norm_eps,
        )

    def _hidden_states(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None,
        *,
        trace: Trace | None = None,
    ) -> torch.Tensor:
        pad_id = self.embedding.special_ids.pad
        input_ids, values = blank_padding(input_ids, values, attention_mask, pad_id=pad_id)
        hidden = self.embedding(input_ids, values)  # (B, S, H)
        states = [hidden]
        for layer in self.layers:
            hidden = hidden + layer(hidden)
            states.append(hidden)
        if trace is not None and trace.states:
            trace.hidden_states += states
        return hidden
