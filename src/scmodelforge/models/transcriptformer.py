"""A causal transformer that names the genes of a cell one after another and counts the transcripts of each.

The model of TranscriptFormer (Pearce et al. 2025, doi:10.1101/2025.04.25.650731). From the genes before it a position
scores which gene comes next, and, told which it is, how many transcripts of it there are: a Poisson distribution given
that it is not 0. Particular here:

- A token is the vector of its gene, from a protein language model if the tokenizer brings some (``gene_embedding``),
  behind a small network. Of its count nothing is embedded: log(1 + count) is added to the attention that the gene gets
  from later ones, not to what it gives itself.
- Scores of attention, and of genes, are capped softly: 10 tanh(s / 10).
- Each branch is added to the normalised stream, linear layers have no biases, nothing is normalised at the end.
- A cell may begin with the token of its assay (``assay_ids``); one that is not known is not seen.

Where we differ from the published code:

- There the rate of a count is the gene's share in all transcripts of the cell (``count_rates: shares``, which the
  loader of published weights sets). Then it is told of the count it is asked for: the total holds it, and the scores
  of later genes, by which it is divided, come from states that have seen it. Such a loss is not that of a prediction.
  By default a rate depends on what is before the gene and on the gene alone (``own``).
- A count is scored by the truncated distribution itself, whose normaliser is log(exp(mu) - 1); the released code has
  mu - softplus(-mu) for it, which is wrong for rates below 1.
- Losses are means over genes, not over all places of a window; ``<end>`` is never asked for, nor padding.
- A cell embedding is the mean over its tokens; there it is multiplied by the share of the window that the cell fills.
- Tokens see the same in training and for embedding. There a token's count is added to its attention to itself as well
  when cells are embedded; ``own_counts_when_encoding`` does the same.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.config.own import own_settings
from scmodelforge.config.schema import ModelConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models._utils import init_weights, required_vocab_size
from scmodelforge.models.base import CellModel, transformer_arguments
from scmodelforge.models.components.attention import prefix_mask
from scmodelforge.models.components.blocks import Trace, with_trace
from scmodelforge.models.components.embeddings import blank_padding
from scmodelforge.models.components.flops import Parts
from scmodelforge.models.components.gene_vectors import AssayEmbedding, CappedGeneHead, GeneVectorEmbedding, NormedMLP
from scmodelforge.models.components.losses import (
    gathered_cross_entropy,
    log_shares,
    masked_cross_entropy,
    zero_truncated_poisson_loss,
)
from scmodelforge.models.components.pooling import get_pooling
from scmodelforge.models.components.transformer import TransformerStack
from scmodelforge.models.config import TransformerConfig
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.models.registry import register_model

__all__ = ["TranscriptFormer", "TranscriptFormerConfig"]


class TranscriptFormerConfig(TransformerConfig):
    """Settings of the model of TranscriptFormer."""

    norm_placement: Literal["pre", "post", "stream"] = "stream"
    """Where blocks normalise: ``stream`` before each branch, which is added to what was normalised."""
    layer_norm_eps: float = Field(1e-5, gt=0)
    """Epsilon of the layer norms."""
    gene_order: Literal["random", "given"] = "random"
    """Order in which genes are named: drawn for each cell and pass, or as the tokenizer gives them."""
    soft_cap: float | None = Field(10.0, gt=0)
    """Most that scores of attention and of genes may be, reached softly; ``None`` does not bound them."""
    vector_dim: int | None = Field(None, gt=0)
    """Width of the vectors of genes; given ones of another are projected to it. ``None`` is ``hidden_dim``."""
    head_dim: int | None = Field(None, gt=0)
    """Width inside the head that scores genes; ``None`` is ``hidden_dim``."""
    num_assays: int | None = Field(None, gt=1)
    """Number of assays, the unknown one (0) included; ``None`` has no token for them."""
    count_rates: Literal["own", "shares"] = "own"
    """``own`` gives the rate of a count from what is before the gene and the gene; ``shares`` is the published form, a
    share of all counts of the cell, which knows of the count it is asked for (see the head of the file)."""
    own_counts_when_encoding: bool = False
    """Let a token's count add to its attention to itself in ``encode``, as published models are used, though not
    trained."""

    @property
    def unread_settings(self) -> dict[str, str]:
        """Settings that the others leave without effect, and why."""
        return {"num_assays": "in a run, which brings no assays; give them from Python (assay_ids)"}


@register_model("transcriptformer")
class TranscriptFormer(CellModel):
    """Causal transformer that predicts the next gene and its count.

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
    vector_dim
        Width of the vectors of genes; ``None`` is ``hidden_dim``.
    head_dim
        Width inside the head that scores genes; ``None`` is ``hidden_dim``.
    num_assays
        Number of assays, the unknown one included; ``None`` has no token for them.
    soft_cap
        Most that scores may be, reached softly; ``None`` does not bound them.
    count_rates
        ``own`` or ``shares``: :meth:`log_rates`.
    own_counts_when_encoding
        Let a token's count add to its attention to itself in :meth:`encode`.
    gene_loss_weight, expression_loss_weight
        Weights of the two terms of the loss.
    ffn_dim, dropout, max_seq_len, pooling, activation, use_expression_values, layer_norm_eps, attention_dropout, \
norm_placement, norm, activation_checkpointing
        As of the other transformers; ``max_seq_len`` does not count the assay, and ``pooling`` is ``mean``.

    Raises
    ------
    ConfigError
        If the pooling is another one, or sizes do not fit.
    """

    config_class: ClassVar[type[TranscriptFormerConfig]] = TranscriptFormerConfig
    default_objective: ClassVar[str] = "next_count_prediction"
    default_pooling: ClassVar[str] = "mean"
    allowed_objectives: ClassVar[tuple[str, ...]] = ("next_count_prediction",)
    first_sees_cell: ClassVar[bool] = False
    pretraining_parts: ClassVar[tuple[str, ...]] = ("gene_head", "count_head", "count_bias")
    unused_settings: ClassVar[frozenset[str]] = frozenset({"n_bins", "decoder_dim", "decoder_layers", "decoder_heads"})
    is_causal: ClassVar[bool] = True
    takes_attention_bias: ClassVar[bool] = True
    only_value_use: ClassVar[str] = "attention_bias"

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        *,
        vector_dim: int | None = None,
        head_dim: int | None = None,
        num_assays: int | None = None,
        soft_cap: float | None = 10.0,
        count_rates: Literal["own", "shares"] = "own",
        own_counts_when_encoding: bool = False,
        gene_loss_weight: float = 1.0,
        expression_loss_weight: float = 1.0,
        ffn_dim: int | None = None,
        dropout: float = 0.1,
        max_seq_len: int = 2048,
        pooling: str = "mean",
        activation: str = "gelu",
        use_expression_values: bool = True,
        layer_norm_eps: float = 1e-5,
        attention_dropout: float = 0.0,
        norm_placement: str = "stream",
        norm: str = "layer_norm",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if pooling != "mean":
            msg = (
                f"model.pooling is '{pooling}', but the first token of transcriptformer sees no other; set it to "
                "'mean' or leave it out."
            )
            raise ConfigError(msg)
        self.vocab_size, self.hidden_dim, self.pooling = vocab_size, hidden_dim, pooling
        self.soft_cap, self.own_counts_when_encoding = soft_cap, own_counts_when_encoding
        self.count_rates = count_rates
        self.gene_loss_weight, self.expression_loss_weight = gene_loss_weight, expression_loss_weight
        self._pool = get_pooling(pooling)
        self.embedding = GeneVectorEmbedding(
            vocab_size,
            hidden_dim,
            vector_dim=vector_dim or hidden_dim,
            max_seq_len=max_seq_len,
            dropout=dropout,
            use_expression_values=use_expression_values,
            layer_norm_eps=layer_norm_eps,
        )
        self.assay_embedding = None if num_assays is None else AssayEmbedding(num_assays, hidden_dim)
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
            bias=False,
            soft_cap=soft_cap,
            checkpointing=activation_checkpointing,
        )
        self.gene_head = CappedGeneHead(
            hidden_dim, head_dim or hidden_dim, vocab_size, layer_norm_eps, soft_cap=soft_cap
        )
        self.count_head = NormedMLP(2 * hidden_dim, max(1, hidden_dim // 2), 1, layer_norm_eps)
        self.count_bias = nn.Embedding(vocab_size, 1)
        self.apply(init_weights)
        nn.init.normal_(self.count_head.decoder.weight, std=0.02)  # all rates are alike at first

    @property
    def flop_parts(self) -> Parts:
        """What a pass of training computes on: the genes asked for are embedded too, for their counts."""
        return [*super().flop_parts, ("embedding", "targets")]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        *,
        targets: torch.Tensor | None = None,
        assay_ids: torch.Tensor | None = None,
        return_logits: bool = True,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> ModelOutput:
        """Score the gene to be named at every position, with the loss when labels are given.

        Parameters
        ----------
        input_ids
            Token ids, shape (B, S).
        attention_mask
            1 for real tokens and 0 for padding, shape (B, S), of any type. What stands at padding has no effect.
        values
            Counts, shape (B, S). ``None`` stands for zeros.
        labels
            Token ids to predict at each position, -100 where there is nothing to predict, shape (B, S). They are not
            shifted here: a batch of the objective has at t the gene of t + 1.
        targets
            Counts of the genes in ``labels``, shape (B, S). Without them the loss has no term of counts.
        assay_ids
            Assay of each cell, shape (B,); 0, or ``None``, is an unknown one.
        return_logits
            Without it only the labelled positions are predicted and ``logits`` is ``None``: the same loss for less.
        output_hidden_states, output_attentions
            Give ``hidden_states``, ``attentions``, the assay's at first.
        **kwargs
            Other keys of the batch, not used.

        Returns
        -------
        ``logits`` of genes, shape (B, S, V), ``embeddings``, shape (B, H), and with labels ``loss``: the weighted sum
        of the mean cross-entropy of genes and the mean negative log-likelihood of counts in nats, each 0 without
        targets.

        Raises
        ------
        ConfigError
            If the sequences are longer than ``max_seq_len``.
        DataError
            If a token or a label is not in the vocabulary, or a target is no count above 0; checked on the CPU only.
        """
        trace = Trace.asked(states=output_hidden_states, maps=output_attentions)
        hidden = self._hidden_states(input_ids, attention_mask, values, assay_ids=assay_ids, trace=trace)  # (B, S, H)
        embeddings = self._pool(hidden, attention_mask)  # (B, H)
        logits = self.gene_head(hidden) if return_logits else None  # (B, S, V)
        if labels is None:
            return with_trace(ModelOutput(logits=logits, embeddings=embeddings), trace)
        self.embedding.check_ids(labels.masked_fill(labels == IGNORE_INDEX, 0))
        if logits is None:
            gene_loss = gathered_cross_entropy(hidden, labels, self.gene_head)
        else:
            gene_loss = masked_cross_entropy(logits, labels)
        terms = {"next_gene": self.gene_loss_weight * gene_loss}
        if targets is not None:
            rates = self.log_rates(hidden, labels, targets)
            count_loss = zero_truncated_poisson_loss(rates, targets, labels != IGNORE_INDEX)
            terms["expression_count"] = self.expression_loss_weight * count_loss
        loss = torch.stack(list(terms.values())).sum()
        return with_trace(ModelOutput(loss=loss, logits=logits, embeddings=embeddings, loss_terms=terms), trace)

    def encode_tokens(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        *,
        assay_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed cells: what ``forward`` gives, but for ``own_counts_when_encoding``; no token sees a later one.

        The parameters are those of :meth:`forward`, the shapes those of :meth:`CellModel.encode_tokens`.
        """
        hidden = self._hidden_states(
            input_ids, attention_mask, values, assay_ids=assay_ids, own_counts=self.own_counts_when_encoding
        )
        return self._pool(hidden, attention_mask), hidden

    def log_rates(self, hidden_states: torch.Tensor, genes: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Return the logarithms of the rates of given genes.

        Each gene has a score from the state before it, the gene, and a number of its own. With ``count_rates: own`` it
        is the logarithm of the rate; with ``shares`` the rate is a softmax of the scores over the genes of the cell,
        times all their counts.

        Parameters
        ----------
        hidden_states
            Hidden states where the genes are to be named, shape (B, S, H).
        genes
            Token ids of the genes, -100 where there is none, shape (B, S).
        counts
            Their counts, shape (B, S).

        Returns
        -------
        Shape (B, S), float32; 0 where there is no gene.
        """
        is_gene = genes != IGNORE_INDEX
        named = genes[is_gene]  # (M,)
        vectors = self.embedding.genes(named).to(hidden_states.dtype)
        scores = self.count_head(torch.cat([hidden_states[is_gene], vectors], dim=-1)) + self.count_bias(named)
        if self.count_rates == "shares":
            return log_shares(scores.squeeze(-1), is_gene, counts)
        rates = torch.zeros(is_gene.shape, device=scores.device)
        return rates.masked_scatter(is_gene, scores.squeeze(-1).float())

    @classmethod
    def from_config(cls, config: ModelConfig) -> TranscriptFormer:
        """Make a model from settings.

        Parameters
        ----------
        config
            Settings with ``vocab_size`` set, plain ones or :class:`TranscriptFormerConfig`.

        Raises
        ------
        ValueError
            If ``vocab_size`` is not set, or ``pooling`` asks for another pooling than the mean.
        """
        own: TranscriptFormerConfig = own_settings("model", "transcriptformer", config, TranscriptFormerConfig)
        return cls(
            vocab_size=required_vocab_size(own),
            hidden_dim=own.hidden_dim,
            num_layers=own.num_layers,
            num_heads=own.num_heads,
            vector_dim=own.vector_dim,
            head_dim=own.head_dim,
            num_assays=own.num_assays,
            soft_cap=own.soft_cap,
            count_rates=own.count_rates,
            own_counts_when_encoding=own.own_counts_when_encoding,
            gene_loss_weight=own.gene_loss_weight,
            expression_loss_weight=own.expression_loss_weight,
            **transformer_arguments(own, default_pooling=cls.default_pooling),
        )

    def _hidden_states(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None,
        *,
        assay_ids: torch.Tensor | None = None,
        own_counts: bool = False,
        trace: Trace | None = None,
    ) -> torch.Tensor:
        pad_id = self.embedding.special_ids.pad
        input_ids, values = blank_padding(input_ids.long(), values, attention_mask, pad_id=pad_id)
        embedded, bias = self.embedding(input_ids), self.embedding.attention_bias(input_ids, values)
        is_seen = attention_mask != 0
        num_first = 0
        if self.assay_embedding is not None and assay_ids is not None:
            embedded, bias, is_seen = self.assay_embedding.before(embedded, bias, is_seen, assay_ids=assay_ids)
            num_first = 1
        mask = prefix_mask(embedded.shape[1], None, embedded.device)
        hidden = self.encoder(embedded, is_seen, mask, key_bias=bias, bias_itself=own_counts, trace=trace)
        return hidden[:, num_first:]
