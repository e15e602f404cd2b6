"""A masked autoencoder: the encoder sees the visible genes only, a small decoder predicts values of the hidden ones.

He et al. 2022, arXiv:2111.06377, on genes as in scFoundation (Hao et al. 2024, doi:10.1038/s41592-024-02305-7).
Particular here:

- The decoder is told which gene it must predict at a hidden position (its embedding beside the mask token); a mask
  token and a place in the sequence alone, when the order of genes differs between cells, leave it only the average.
- Visible tokens are gathered before anything is computed on them, so the encoder's work shrinks as masking grows, and
  nothing of a hidden token, neither id nor value nor place, is input.
- Tokens have no position by default: id and value say all, and the places left free by hidden genes would tell ranks.
- The objective also asks for genes the cell does not express, so that 0 can be learned; scFoundation does the same.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import ModelConfig
from scmodelforge.models._utils import init_weights, required_vocab_size
from scmodelforge.models.base import CellModel, transformer_arguments
from scmodelforge.models.components.blocks import Trace, with_trace
from scmodelforge.models.components.embeddings import GeneExpressionEmbedding, blank_padding, check_length
from scmodelforge.models.components.flops import Parts
from scmodelforge.models.components.heads import ExpressionPredictionHead
from scmodelforge.models.components.losses import masked_squared_error
from scmodelforge.models.components.masking import asked_genes, gather_visible, hidden_positions, place_codes
from scmodelforge.models.components.pooling import get_pooling
from scmodelforge.models.components.transformer import TransformerStack
from scmodelforge.models.config import TransformerConfig
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.models.registry import register_model

__all__ = ["MaskedAutoencoder", "MaskedAutoencoderConfig"]


class MaskedAutoencoderConfig(TransformerConfig):
    """Settings of the masked autoencoder."""

    use_positions: bool = False
    """Embed the place of each visible token among the visible ones."""
    zero_target_ratio: float = Field(1.0, ge=0)
    """Genes without expression that are asked for, per hidden gene."""


@register_model("masked_autoencoder")
class MaskedAutoencoder(CellModel):
    """Asymmetric encoder and decoder that predict the expression of hidden genes.

    Parameters
    ----------
    vocab_size
        Number of tokens V, special ones included.
    encoder_dim
        Width H of the encoder.
    decoder_dim
        Width of the decoder; ``None`` is half of ``encoder_dim``.
    encoder_layers, decoder_layers
        Number of transformer blocks.
    encoder_heads, decoder_heads
        Attention heads, which divide the widths; ``decoder_heads=None`` is ``encoder_heads``.
    ffn_dim
        Width inside the encoder's feed-forward layers; ``None`` is four times ``encoder_dim``. The decoder's are four
        times its width.
    dropout
        Dropout on the embedding and on what each branch of a block adds.
    max_seq_len
        Longest sequence, hidden tokens included.
    pooling
        How a cell embedding is made: ``cls`` takes the first visible token, ``mean`` averages over all visible ones.
    activation
        Activation of the feed-forward layers: ``gelu``, ``relu``, ``silu`` or ``swiglu``.
    use_expression_values
        Add a projection of each visible token's expression value to its embedding.
    layer_norm_eps
        Epsilon of the layer norms.
    attention_dropout
        Dropout on the attention weights.
    norm_placement, norm
        Where blocks normalise, ``pre``, ``post`` or ``stream``, and how, ``layer_norm`` or ``rms_norm``.
    activation_checkpointing
        Compute blocks once more on the way back in training instead of keeping what is inside them.
    use_positions
        Embed the place of each visible token among the visible ones.
    """

    config_class: ClassVar[type[MaskedAutoencoderConfig]] = MaskedAutoencoderConfig
    default_objective: ClassVar[str] = "masked_value_prediction"
    default_pooling: ClassVar[str] = "mean"
    takes_attention_bias: ClassVar[bool] = True
    value_masking: ClassVar[str] = "no effect"
    allowed_objectives: ClassVar[tuple[str, ...]] = ("masked_value_prediction",)
    pretraining_parts: ClassVar[tuple[str, ...]] = (
        "decoder_input",
        "decoder_gene_norm",
        "decoder_gene",
        "mask_token",
        "decoder",
        "head",
    )
    unused_settings: ClassVar[frozenset[str]] = frozenset({"n_bins", "gene_loss_weight", "expression_loss_weight"})

    def __init__(
        self,
        vocab_size: int,
        encoder_dim: int = 512,
        decoder_dim: int | None = None,
        encoder_layers: int = 12,
        decoder_layers: int = 4,
        encoder_heads: int = 8,
        decoder_heads: int | None = None,
        ffn_dim: int | None = None,
        dropout: float = 0.1,
        max_seq_len: int = 2048,
        pooling: str = "mean",
        activation: str = "gelu",
        use_expression_values: bool = True,
        layer_norm_eps: float = 1e-12,
        *,
        attention_dropout: float = 0.0,
        norm_placement: str = "pre",
        norm: str = "layer_norm",
        activation_checkpointing: bool = False,
        use_positions: bool = False,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.encoder_dim = encoder_dim
        self.decoder_dim = encoder_dim // 2 if decoder_dim is None else decoder_dim
        self.max_seq_len = max_seq_len
        self.pooling = pooling
        self._pool = get_pooling(pooling)
        self.embedding = GeneExpressionEmbedding(
            vocab_size,
            encoder_dim,
            max_seq_len=max_seq_len,
            dropout=dropout,
            use_expression_values=use_expression_values,
            layer_norm_eps=layer_norm_eps,
            use_positions=use_positions,
        )
        shared: dict[str, Any] = {
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "activation": activation,
            "layer_norm_eps": layer_norm_eps,
            "norm_placement": norm_placement,
            "norm": norm,
            "checkpointing": activation_checkpointing,
        }
        self.encoder = TransformerStack(encoder_dim, encoder_layers, encoder_heads, ffn_dim=ffn_dim, **shared)
        decoder_heads = encoder_heads if decoder_heads is None else decoder_heads
        if self.decoder_dim % decoder_heads:
            msg = (
                f"model.decoder_dim ({self.decoder_dim}) is not divisible by model.decoder_heads ({decoder_heads}); "
                "change one of them so that it is."
            )
            raise ConfigError(msg)
        self.decoder_input = nn.Linear(encoder_dim, self.decoder_dim)
        self.decoder_gene_norm = nn.LayerNorm(encoder_dim, eps=layer_norm_eps)  # vectors start small beside states
        self.decoder_gene = nn.Linear(encoder_dim, self.decoder_dim, bias=False)
        self.mask_token = nn.Parameter(torch.empty(self.decoder_dim))
        self.decoder = TransformerStack(self.decoder_dim, decoder_layers, decoder_heads, **shared)
        self.head = ExpressionPredictionHead(self.decoder_dim)
        self.apply(init_weights)
        nn.init.normal_(self.mask_token, std=0.02)

    @property
    def flop_parts(self) -> Parts:
        """What a pass of training computes on: the encoder sees visible tokens only, the decoder all."""
        seen = [(name, "visible") for name in ("embedding", "encoder", "decoder_input")]
        return [*seen, ("decoder_gene", "tokens"), ("decoder", "tokens"), ("head", "targets")]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        *,
        masked_positions: torch.Tensor | None = None,
        gene_ids: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        return_logits: bool = True,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> ModelOutput:
        """Predict the expression of every token, with the loss at hidden ones when labels are given.

        Parameters
        ----------
        input_ids
            Token ids, shape (B, S). Those at hidden positions have no effect.
        attention_mask
            1 for real tokens and 0 for padding, shape (B, S), of any type. What stands at padding has no effect.
        values
            Expression values, shape (B, S). ``None`` stands for zeros. Those at hidden positions are no input; they
            are the truth if there are no ``targets``.
        labels
            Their presence asks for a loss. Without ``masked_positions`` the hidden positions are those where they are
            not -100; without ``gene_ids`` they say which gene is asked for there. Shape (B, S).
        masked_positions
            Hidden positions, shape (B, S), bool or 0 and 1.
        gene_ids
            The gene at every position, shape (B, S); read at hidden positions, for which gene is asked.
        targets
            True values at hidden positions, shape (B, S).
        return_logits
            Without it ``logits`` is ``None``, and without labels nothing is decoded.
        output_hidden_states, output_attentions
            Give ``hidden_states``, ``attentions`` of the encoder, of visible tokens only.
        **kwargs
            Other keys of the batch, not used.

        Returns
        -------
        ``logits``, the predicted values, shape (B, S), ``embeddings`` of what is visible, shape (B, H), and with
        labels ``loss``: the mean squared error over the hidden positions, 0 if there are none.

        Raises
        ------
        ConfigError
            If the sequences are longer than ``max_seq_len``.
        """
        is_real = attention_mask != 0
        is_hidden = hidden_positions(masked_positions, labels, is_real)
        trace = Trace.asked(states=output_hidden_states, maps=output_attentions)
        hidden, index, is_kept = self._encode_visible(
            input_ids, values, is_real & ~is_hidden, **Trace.given(trace)
        )  # (B, W, H)
        embeddings = self._pool(hidden, is_kept)  # (B, H)
        if labels is None and not return_logits:
            return with_trace(ModelOutput(embeddings=embeddings), trace)
        asked, is_known = asked_genes(input_ids, gene_ids, labels, is_hidden=is_hidden)
        asked = asked.masked_fill(~is_real, self.embedding.special_ids.pad)
        self.embedding.check_ids(asked)
        decoded = self._decode(hidden, index, is_kept, asked=asked, is_known=is_known, is_real=is_real)
        logits = self.head(decoded) if return_logits else None  # (B, S)
        if labels is None:
            return with_trace(ModelOutput(logits=logits, embeddings=embeddings), trace)
        truth = targets if targets is not None else values
        if truth is None:
            truth = torch.zeros(input_ids.shape, device=input_ids.device)
        if logits is not None:
            loss = masked_squared_error(logits, truth, is_hidden)
        else:
            loss = masked_squared_error(self.head(decoded[is_hidden]), truth[is_hidden], is_hidden[is_hidden])
        output = ModelOutput(loss=loss, logits=logits, embeddings=embeddings, loss_terms={"masked_value": loss})
        return with_trace(output, trace)

    def encode_tokens(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed cells with nothing hidden: what ``forward`` gives without labels, and the encoder's hidden states.

        Parameters and shapes are those of :meth:`CellModel.encode_tokens`.
        """
        hidden, _, is_kept = self._encode_visible(input_ids, values, attention_mask != 0)
        return self._pool(hidden, is_kept), hidden

    @classmethod
    def from_config(cls, config: ModelConfig) -> MaskedAutoencoder:
        """Make a model from settings; ``hidden_dim``, ``num_layers`` and ``num_heads`` are the encoder's.

        Parameters
        ----------
        config
            Settings with ``vocab_size`` set, plain ones or :class:`MaskedAutoencoderConfig`.

        Raises
        ------
        ValueError
            If ``vocab_size`` is not set.
        """
        return cls(
            vocab_size=required_vocab_size(config),
            encoder_dim=config.hidden_dim,
            decoder_dim=config.decoder_dim,
            encoder_layers=config.num_layers,
            decoder_layers=config.decoder_layers,
            encoder_heads=config.num_heads,
            decoder_heads=config.decoder_heads,
            use_positions=isinstance(config, MaskedAutoencoderConfig) and config.use_positions,
            **transformer_arguments(config, default_pooling=cls.default_pooling),
        )

    def _encode_visible(
        self,
        input_ids: torch.Tensor,
        values: torch.Tensor | None,
        is_visible: torch.Tensor,
        *,
        trace: Trace | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return hidden states of visible tokens, (B, W, H), their places (B, W), and which of them are real."""
        check_length(input_ids.shape[1], self.max_seq_len)
        index, is_kept = gather_visible(is_visible)
        ids = input_ids.gather(1, index)
        shown = None if values is None else values.gather(1, index)
        ids, shown = blank_padding(ids, shown, is_kept, pad_id=self.embedding.special_ids.pad)
        embedded, bias = self.embedding(ids, shown), self.embedding.attention_bias(ids, shown)
        hidden = self.encoder(embedded, is_kept, key_bias=bias, trace=trace)
        return hidden, index, is_kept

    def _decode(
        self,
        hidden: torch.Tensor,
        index: torch.Tensor,
        is_kept: torch.Tensor,
        *,
        asked: torch.Tensor,
        is_known: torch.Tensor | None,
        is_real: torch.Tensor,
    ) -> torch.Tensor:
        """Return the decoder's hidden states of all tokens, shape (B, S, decoder_dim)."""
        seen = self.decoder_input(hidden)  # (B, W, D)
        mask_token = self.mask_token.to(seen.dtype)
        seen = torch.where(is_kept[..., None], seen, mask_token)
        tokens = mask_token.expand(*asked.shape, -1).scatter(1, index[..., None].expand_as(seen), seen)  # (B, S, D)
        gene = self.decoder_gene(self.decoder_gene_norm(self.embedding.gene_embedding(asked))).to(seen.dtype)
        if is_known is not None:
            place = place_codes(asked.shape[1], self.decoder_dim, asked.device).to(seen.dtype)
            gene = torch.where(is_known[..., None], gene, place)
        return self.decoder(tokens + gene, is_real)
