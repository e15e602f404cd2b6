"""A bidirectional transformer that predicts hidden genes from the genes around them.

The scheme is BERT's (Devlin et al. 2019, doi:10.18653/v1/N19-1423), brought to cells by scBERT (Yang et al. 2022,
doi:10.1038/s42256-022-00534-z) and Geneformer (Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9). Differences:

- Pre-norm blocks and a final layer norm, where these models normalise after each addition: deep stacks train without
  a long warm-up.
- A token's expression value is projected and added to its embedding (``use_expression_values``).
- Dropout acts on the embedding and on what the branches add, not on attention weights unless asked for.
- The prediction head has its own output weights, not those of the gene embedding.
- With ``pretraining_task: masked_value_prediction`` it predicts the hidden values of genes it sees, as scGPT does (Cui
  et al. 2024, doi:10.1038/s41592-024-02201-0), from all tokens and not from visible values only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import nn

from scmodelforge.models._utils import init_weights, required_vocab_size
from scmodelforge.models.base import transformer_arguments
from scmodelforge.models.components.blocks import Trace, with_trace
from scmodelforge.models.components.embeddings import GeneExpressionEmbedding, blank_padding
from scmodelforge.models.components.heads import ExpressionPredictionHead, MaskedGenePredictionHead
from scmodelforge.models.components.pooling import get_pooling
from scmodelforge.models.components.transformer import TransformerStack
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.models.registry import register_model
from scmodelforge.models.transformer_encoder_cells import ChosenTokensModel, check_left_out_layers
from scmodelforge.models.transformer_encoder_config import TransformerEncoderConfig
from scmodelforge.models.transformer_encoder_values import with_value_loss

if TYPE_CHECKING:
    from scmodelforge.config.schema import ModelConfig

__all__ = ["TransformerEncoder", "TransformerEncoderConfig"]


@register_model("transformer_encoder")
class TransformerEncoder(ChosenTokensModel):
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
        Activation of the feed-forward layers: ``gelu``, ``relu``, ``silu`` or ``swiglu``.
    use_expression_values
        Add a projection of each token's expression value to its embedding.
    layer_norm_eps
        Epsilon of the layer norms.
    attention_dropout
        Dropout on the attention weights.
    norm_placement, norm
        Where blocks normalise, ``pre``, ``post`` or ``stream``, and how, ``layer_norm`` or ``rms_norm``.
    activation_checkpointing
        Compute blocks once more on the way back in training instead of keeping what is inside them.
    positions
        ``learned`` adds a vector for each position, ``rotary`` lets attention depend on the distance of tokens, with
        ``none`` the tokens of a cell are a set.
    tied_head
        Score genes by the vectors of the gene embedding.
    head_activation
        Activation of the head that predicts genes.
    predicts
        ``genes`` scores all genes at each position, ``values`` gives the expression of the gene there.
    value_loss
        With ``values``: ``squared_error``, or ``zero_truncated_poisson``, whose predictions are logarithms of rates.
    pooled_tokens, left_out_layers
        What embeddings of cells average over, ``all`` tokens or ``genes``, and the layers at the end they leave out.

    Raises
    ------
    ConfigError
        If embeddings of cells are to leave out all layers.
    """

    config_class: ClassVar[type[TransformerEncoderConfig]] = TransformerEncoderConfig
    default_objective: ClassVar[str] = "masked_gene_prediction"
    default_pooling: ClassVar[str] = "cls"
    takes_attention_bias: ClassVar[bool] = True
    value_masking: ClassVar[str] = "needed"
    allowed_objectives: ClassVar[tuple[str, ...]] = ("masked_gene_prediction", "masked_value_prediction")
    pretraining_parts: ClassVar[tuple[str, ...]] = ("head",)
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
        norm_placement: str = "pre",
        norm: str = "layer_norm",
        activation_checkpointing: bool = False,
        positions: str = "learned",
        tied_head: bool = False,
        head_activation: str = "gelu",
        predicts: Literal["genes", "values"] = "genes",
        value_loss: Literal["squared_error", "zero_truncated_poisson"] = "squared_error",
        pooled_tokens: Literal["all", "genes"] = "all",
        left_out_layers: int = 0,
    ) -> None:
        super().__init__()
        check_left_out_layers(left_out_layers, num_layers)
        self.pooled_tokens, self.left_out_layers = pooled_tokens, left_out_layers
        self.value_loss = value_loss
        self.predicts = predicts
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
            use_positions=positions == "learned",
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
            norm_placement=norm_placement,
            norm=norm,
            rotary=positions == "rotary",
            checkpointing=activation_checkpointing,
        )
        if predicts == "genes":
            table = self.embedding.gene_embedding if tied_head else None
            assert table is None or isinstance(table, nn.Embedding)
            self.head: nn.Module = MaskedGenePredictionHead(
                hidden_dim, vocab_size, layer_norm_eps, activation=head_activation, tied_to=table
            )
        else:
            self.head = ExpressionPredictionHead(hidden_dim)
        self.apply(init_weights)

    @classmethod
    def from_config(cls, config: ModelConfig) -> TransformerEncoder:
        """Make a model from settings.

        Parameters
        ----------
        config
            Settings with ``vocab_size`` set, plain ones or :class:`TransformerEncoderConfig`.

        Raises
        ------
        ValueError
            If ``vocab_size`` is not set.
        """
        own = config if isinstance(config, TransformerEncoderConfig) else TransformerEncoderConfig()
        return cls(
            vocab_size=required_vocab_size(config),
            hidden_dim=config.hidden_dim,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            positions=own.positions,
            tied_head=own.tied_head,
            head_activation=own.head_activation,
            value_loss=own.value_loss,
            pooled_tokens=own.pooled_tokens,
            left_out_layers=own.left_out_layers,
            predicts="values" if config.pretraining_task == "masked_value_prediction" else "genes",
            **transformer_arguments(config, default_pooling=cls.default_pooling),
        )

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        *,
        targets: torch.Tensor | None = None,
        masked_positions: torch.Tensor | None = None,
        return_logits: bool = True,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> ModelOutput:
        """Predict the gene of every position, or its value, with the loss when labels are given.

        Parameters
        ----------
        input_ids, attention_mask, values, labels, return_logits, output_hidden_states, output_attentions, **kwargs
            As in :meth:`MaskedGeneModel.forward`.
        targets
            Values to predict where there are labels, shape (B, S); read by a model that predicts values only.
        masked_positions
            Where values are hidden, shape (B, S), bool; read by a model that predicts values and has a vector for such.

        Returns
        -------
        As :meth:`MaskedGeneModel.forward` does. A model that predicts values gives ``logits`` of shape (B, S), values
        or logarithms of rates, and as ``loss`` the mean over the labelled positions, 0 if there are none.

        Raises
        ------
        DataError
            If values are to be learned and there are no ``targets``.
        """
        if self.predicts == "genes":
            return super().forward(
                input_ids,
                attention_mask,
                values,
                labels,
                return_logits=return_logits,
                output_hidden_states=output_hidden_states,
                output_attentions=output_attentions,
                **kwargs,
            )
        trace = Trace.asked(states=output_hidden_states, maps=output_attentions)
        embeddings, hidden = self._cells_and_tokens(
            input_ids, attention_mask, values, trace=trace, is_hidden=masked_positions
        )
        logits = self.head(hidden) if return_logits or labels is not None else None  # (B, S)
        output = ModelOutput(logits=logits if return_logits else None, embeddings=embeddings)
        if labels is not None and logits is not None:
            output = with_value_loss(output, logits, labels, targets, kind=self.value_loss)
        return with_trace(output, trace)

    def _hidden_states(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None,
        *,
        trace: Trace | None = None,
        is_hidden: torch.Tensor | None = None,
        left_out: int = 0,
    ) -> torch.Tensor:
        pad_id = self.embedding.special_ids.pad
        input_ids, values = blank_padding(input_ids, values, attention_mask, pad_id=pad_id)
        embedded = self.embedding(input_ids, values, is_hidden=is_hidden)
        bias = self.embedding.attention_bias(input_ids, values)
        return self.encoder(embedded, attention_mask, key_bias=bias, trace=trace, left_out=left_out)
