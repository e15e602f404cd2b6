"""Masked diffusion over the genes of a cell: from what is visible, which genes are hidden, and how much of each.

The model of ScDiVa's paper (arXiv:2602.03477) in the standard form of absorbing diffusion, written from its abstract
and sizes: its code cannot be run and its weights were not at hand, so nothing here is compared with them.
Blocks as there: pre-norm with RMS norm, SwiGLU. Differences, known or possible:

- The genes of a cell are a set: there are no positions, while there a rotary embedding tells ranks by entropy. Hidden
  genes then cannot be told from each other, and one ``<mask>`` stands for all m of a cell: log m is added to the
  attention it gets, which gives the same states as m masks, in less than half of the time on average.
- From the state of that token come scores of all genes, of which those in sight cannot be hidden ones, and, told a
  gene, its value: p(gene) p(value | gene), where a value predicted without the gene could only be a mean.
- Genes are weighted as :mod:`scmodelforge.objectives.masked_diffusion` says.
- Which genes are kept of a cell with too many is the tokenizer's part.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from scmodelforge.config.own import own_settings
from scmodelforge.config.schema import ModelConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models._diffusion_config import ScDivaDiffusionConfig
from scmodelforge.models._diffusion_sampling import SampledCells, sample_cells
from scmodelforge.models._utils import init_weights, required_vocab_size
from scmodelforge.models.base import CellModel, transformer_arguments
from scmodelforge.models.components.blocks import Trace, with_trace
from scmodelforge.models.components.embeddings import GeneExpressionEmbedding, blank_padding, check_length
from scmodelforge.models.components.flops import Parts
from scmodelforge.models.components.gene_vectors import NormedMLP
from scmodelforge.models.components.heads import MaskedGenePredictionHead
from scmodelforge.models.components.masking import gather_visible, hidden_positions
from scmodelforge.models.components.pooling import get_pooling
from scmodelforge.models.components.transformer import TransformerStack
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.models.registry import register_model

__all__ = ["ScDivaDiffusion", "ScDivaDiffusionConfig"]

#: Added to the attention of a mask that stands for no gene: exp of it is 0, and it is finite.
_UNSEEN = -1e4


#: Ids and values of the visible tokens of each cell, shape (B, W), and which of them there are.
Seen = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]


@register_model("scdiva_diffusion")
class ScDivaDiffusion(CellModel):
    """Transformer over the visible genes of a cell that tells which genes are hidden, and their values.

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
    log_values
        Take log(1 + value) of values, given and asked for.
    gene_loss_weight, expression_loss_weight
        Weights of the two terms of the loss.
    ffn_dim, dropout, max_seq_len, pooling, activation, use_expression_values, layer_norm_eps, attention_dropout, \
norm_placement, norm, activation_checkpointing
        As of the other transformers.
    """

    config_class: ClassVar[type[ScDivaDiffusionConfig]] = ScDivaDiffusionConfig
    default_objective: ClassVar[str] = "masked_diffusion"
    default_pooling: ClassVar[str] = "mean"
    allowed_objectives: ClassVar[tuple[str, ...]] = ("masked_diffusion",)
    logits_of: ClassVar[str] = "genes"
    value_masking: ClassVar[str] = "no effect"
    takes_attention_bias: ClassVar[bool] = True
    pretraining_parts: ClassVar[tuple[str, ...]] = ("head", "value_head")
    unused_settings: ClassVar[frozenset[str]] = frozenset({"n_bins", "decoder_dim", "decoder_layers", "decoder_heads"})

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int = 512,
        num_layers: int = 12,
        num_heads: int = 8,
        *,
        log_values: bool = False,
        gene_loss_weight: float = 1.0,
        expression_loss_weight: float = 1.0,
        ffn_dim: int | None = None,
        dropout: float = 0.1,
        max_seq_len: int = 2048,
        pooling: str = "mean",
        activation: str = "swiglu",
        use_expression_values: bool = True,
        layer_norm_eps: float = 1e-6,
        attention_dropout: float = 0.0,
        norm_placement: str = "pre",
        norm: str = "rms_norm",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.vocab_size, self.hidden_dim, self.max_seq_len, self.pooling = vocab_size, hidden_dim, max_seq_len, pooling
        self.log_values = log_values
        self.gene_loss_weight, self.expression_loss_weight = gene_loss_weight, expression_loss_weight
        self._pool = get_pooling(pooling)
        self.embedding = GeneExpressionEmbedding(
            vocab_size,
            hidden_dim,
            max_seq_len=max_seq_len,
            dropout=dropout,
            use_expression_values=use_expression_values,
            layer_norm_eps=layer_norm_eps,
            use_positions=False,
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
            checkpointing=activation_checkpointing,
        )
        self.head = MaskedGenePredictionHead(hidden_dim, vocab_size, layer_norm_eps)
        self.value_head = NormedMLP(2 * hidden_dim, max(1, hidden_dim // 2), 1, layer_norm_eps)
        self.apply(init_weights)
        nn.init.normal_(self.value_head.decoder.weight, std=0.02)  # all values are alike at first

    @classmethod
    def from_config(cls, config: ModelConfig) -> ScDivaDiffusion:
        """Make a model from settings.

        Parameters
        ----------
        config
            Settings with ``vocab_size`` set, plain ones or :class:`ScDivaDiffusionConfig`.

        Raises
        ------
        ConfigError
            If ``vocab_size`` is not set, or a setting belongs to another model.
        """
        own: ScDivaDiffusionConfig = own_settings("model", "scdiva_diffusion", config, ScDivaDiffusionConfig)
        return cls(
            vocab_size=required_vocab_size(own),
            hidden_dim=own.hidden_dim,
            num_layers=own.num_layers,
            num_heads=own.num_heads,
            log_values=own.log_values,
            gene_loss_weight=own.gene_loss_weight,
            expression_loss_weight=own.expression_loss_weight,
            **transformer_arguments(own, default_pooling=cls.default_pooling),
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
        loss_weights: torch.Tensor | None = None,
        return_logits: bool = True,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> ModelOutput:
        """Score the genes that may be hidden in each cell, with the loss when labels are given.

        Parameters
        ----------
        input_ids
            Token ids, shape (B, S). What stands at hidden positions is not read.
        attention_mask
            1 for real tokens and 0 for padding, shape (B, S), of any type. What stands at padding has no effect.
        values
            Expression values, shape (B, S). ``None`` stands for zeros.
        labels
            Hidden genes, -100 where nothing is asked for, shape (B, S).
        targets
            Values of the hidden genes, shape (B, S). Without them the loss has no term of values.
        masked_positions
            Where genes are hidden, shape (B, S), bool; by default where there are labels.
        loss_weights
            What each hidden gene counts, shape (B, S), in a mean over cells; by default all alike in a mean over them.
        return_logits
            Without it ``logits`` is ``None``.
        output_hidden_states, output_attentions
            Give ``hidden_states``, ``attentions``: of the mask, then the visible tokens in their order.
        **kwargs
            Other keys of the batch, not used.

        Returns
        -------
        ``logits``, scores of the genes as hidden ones, shape (B, V); ``embeddings``, of what is visible, shape (B, H);
        and with labels ``loss``, the weighted sum of the cross-entropy of hidden genes, in nats, and the squared error
        of their values, each 0 without hidden genes.

        Raises
        ------
        ConfigError
            If the sequences are longer than ``max_seq_len``.
        DataError
            If a token or a label is not in the vocabulary; checked on the CPU only.
        """
        trace = Trace.asked(states=output_hidden_states, maps=output_attentions)
        is_real = attention_mask != 0
        is_hidden = hidden_positions(masked_positions, labels, is_real)
        is_hidden = is_hidden | (is_real & (input_ids == self.embedding.special_ids.mask))
        seen = self._seen(input_ids, values, is_real & ~is_hidden)
        state, embeddings = self._look(seen, is_hidden.sum(dim=1), trace=trace)
        if labels is None and not return_logits:
            return with_trace(ModelOutput(embeddings=embeddings), trace)
        scores = self.head(state)  # (B, V)
        logits = scores if return_logits else None
        if labels is None:
            return with_trace(ModelOutput(logits=logits, embeddings=embeddings), trace)
        self.embedding.check_ids(labels.masked_fill(labels == IGNORE_INDEX, 0))
        terms = self._terms(state, scores, self.in_sight(seen[0]), labels, targets, loss_weights)
        loss = torch.stack(list(terms.values())).sum()
        return with_trace(ModelOutput(loss=loss, logits=logits, embeddings=embeddings, loss_terms=terms), trace)

    def encode_tokens(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed cells and visible tokens, with nothing hidden but what comes as ``<mask>``.

        Parameters as of ``forward``, shapes as of :meth:`CellModel.encode_tokens`.
        """
        is_real = attention_mask != 0
        is_hidden = is_real & (input_ids == self.embedding.special_ids.mask)
        seen = self._seen(input_ids, values, is_real & ~is_hidden)
        states = self._states(seen, is_hidden.sum(dim=1))[:, 1:]
        return self._pool(states, seen[2]), states

    @property
    def flop_parts(self) -> Parts:
        """What a pass of training computes on: visible tokens, one state a cell for all genes, values of targets."""
        return [("embedding", "seen"), ("encoder", "seen"), ("head", 1), ("value_head", "targets")]

    def sample(self, num_cells: int | None = None, **options: Any) -> SampledCells:
        """Draw cells, some genes at a time: :func:`~scmodelforge.models._diffusion_sampling.sample_cells`."""
        return sample_cells(self, num_cells=num_cells, **options)

    def score_hidden(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, values: torch.Tensor, num_hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the heads read of cells with so many further genes hidden, (B, H), and scores of genes, (B, V).

        Genes in sight and special tokens have a score of minus infinity.
        """
        seen = self._seen(input_ids, values, attention_mask != 0)
        state, _ = self._look(seen, num_hidden)
        return state, self.head(state).float().masked_fill(self.in_sight(seen[0]), float("-inf"))

    def predict_values(self, states: torch.Tensor, genes: torch.Tensor) -> torch.Tensor:
        """Return the value, or its logarithm with ``log_values``, of genes, shape (M,), told states, shape (M, H)."""
        vectors = self.embedding.gene_embedding(genes).to(states.dtype)
        predicted: torch.Tensor = self.value_head(torch.cat([states, vectors], dim=-1)).squeeze(-1)
        return predicted

    def _seen(self, input_ids: torch.Tensor, values: torch.Tensor | None, is_visible: torch.Tensor) -> Seen:
        check_length(input_ids.shape[1], self.max_seq_len)
        index, is_kept = gather_visible(is_visible)
        shown = None if values is None else self._scaled(values).gather(1, index)
        ids, shown = blank_padding(input_ids.gather(1, index), shown, is_kept, pad_id=self.embedding.special_ids.pad)
        return ids, shown, is_kept

    def _look(
        self,
        seen: Seen,
        num_hidden: torch.Tensor,
        *,
        trace: Trace | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the state of the mask that stands for the hidden genes, and the embedding of what is seen, (B, H)."""
        states = self._states(seen, num_hidden, trace=trace)
        return states[:, 0], self._pool(states[:, 1:], seen[2])

    def _states(self, seen: Seen, num_hidden: torch.Tensor, *, trace: Trace | None = None) -> torch.Tensor:
        """Return the states of that mask and of what is seen, shape (B, 1 + W, H)."""
        ids, values, is_kept = seen
        # A vocabulary without <mask> can be embedded with, and nothing else.
        mask = torch.full_like(ids[:, :1], max(0, self.embedding.special_ids.mask))
        nothing = None if values is None else torch.zeros_like(values[:, :1])
        embedded = torch.cat([self.embedding(mask, nothing), self.embedding(ids, values)], dim=1)
        weight = torch.where(num_hidden > 0, num_hidden.clamp(min=1).float().log(), _UNSEEN)[:, None]  # (B, 1)
        bias = self.embedding.attention_bias(ids, values)
        bias = torch.zeros(ids.shape, device=ids.device) if bias is None else bias
        is_real = torch.cat([torch.ones_like(is_kept[:, :1]), is_kept], dim=1)
        return self.encoder(embedded, is_real, key_bias=torch.cat([weight, bias], dim=1), **Trace.given(trace))

    def _terms(
        self,
        state: torch.Tensor,
        scores: torch.Tensor,
        is_excluded: torch.Tensor,
        labels: torch.Tensor,
        targets: torch.Tensor | None,
        loss_weights: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        is_target = labels != IGNORE_INDEX
        genes, rows = labels[is_target], is_target.nonzero()[:, 0]  # (M,)
        if loss_weights is None:
            weights, count = torch.ones(len(genes), device=labels.device), max(1, len(genes))
        else:
            weights, count = loss_weights[is_target], max(1, len(labels))
        is_excluded[rows, genes] = False  # of a cell that has a gene twice, one of them in sight
        shares = scores.float().masked_fill(is_excluded, torch.finfo(torch.float32).min).log_softmax(dim=-1)
        terms = {"hidden_gene": -self.gene_loss_weight * (weights * shares[rows, genes]).sum() / count}
        if targets is not None:
            truth = self._scaled(targets[is_target]).float()
            errors = (self.predict_values(state[rows], genes).float() - truth).square()
            terms["hidden_value"] = self.expression_loss_weight * (weights * errors).sum() / count
        return terms

    def _scaled(self, values: Any) -> Any:
        if values is None or not self.log_values:
            return values
        return torch.log1p(values.clamp(min=0))

    def in_sight(self, ids: torch.Tensor) -> torch.Tensor:
        """Return which tokens cannot be hidden genes: those in sight and special ones, shape (B, V), bool."""
        found = torch.zeros(len(ids), self.vocab_size, dtype=torch.bool, device=ids.device).scatter_(1, ids, True)
        found[:, self.embedding.special_ids.on(ids.device)] = True
        return found
