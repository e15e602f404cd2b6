"""A transformer that names the genes of a cell one after another, each with a bin of its expression.

The cell is a sequence of (gene, expression) pairs. From what came before it the model scores which gene comes next,
and, told which it is, in which bin its expression lies: p(genes, bins) = product of p(gene | before) * p(bin | gene,
before). Such factorisations are those of scMulan (Bian et al. 2024, doi:10.1101/2024.01.25.577152) and
TranscriptFormer (Pearce et al. 2025, doi:10.1101/2025.04.25.650731). It is not scGPT (Cui et al. 2024,
doi:10.1038/s41592-024-02201-0), which predicts values of given genes and no order.

What is particular here:

- A set of genes has no order, so the objective draws one for each cell and pass, and tokens have no position.
- Attention is causal after a prefix whose tokens see each other fully (Raffel et al. 2020, jmlr.org/papers/v21/20-074).
  The prefix comes with the batch. So one set of weights continues cells from left to right and embeds whole cells:
  :meth:`AutoregressiveTransformer.encode` is the case in which the prefix is the cell.
- What is named next from a set depends on the set and not on its last member. So where the order is random the heads
  read the mean of the hidden states each position sees, which of a whole cell is its embedding under pooling ``mean``.
- The expression shown is a bin, and has a vector of its own (``value_embedding``).
- The shift by one is the objective's: ``labels[t]`` and ``bin_ids[t]`` describe the gene at t + 1.
- With ``no_repeats`` in the batch, genes already named and special tokens have no probability.
- With ``gene_target: set`` the gene to be named is not the one that happens to come next: all that come later in the
  sequence could have, equally likely. The mean gradient over all orders is that of the next gene. It is less noisy
  near the floor of the loss only: in one order each gene is the next one exactly once, its share of a set varies.
- :meth:`AutoregressiveTransformer.fill` asks for bins of given genes: the genes known are the prefix.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import torch
from torch import nn

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import ModelConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models._next_gene_loss import next_gene_terms
from scmodelforge.models._utils import init_weights, required_vocab_size
from scmodelforge.models.autoregressive_config import AutoregressiveConfig
from scmodelforge.models.base import CellModel, transformer_arguments
from scmodelforge.models.components.attention import prefix_mask
from scmodelforge.models.components.blocks import Trace, with_trace
from scmodelforge.models.components.embeddings import GeneExpressionEmbedding, blank_padding
from scmodelforge.models.components.heads import BinPredictionHead, MaskedGenePredictionHead
from scmodelforge.models.components.pooling import get_pooling, mean_pool, mean_seen
from scmodelforge.models.components.repeats import exclude_named_everywhere
from scmodelforge.models.components.transformer import TransformerStack
from scmodelforge.models.filling import FilledCells, fill_cells
from scmodelforge.models.generation import GeneratedCells, generate_cells
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.models.registry import register_model

__all__ = ["AutoregressiveConfig", "AutoregressiveTransformer"]

_log = logging.getLogger(__name__)


@register_model("autoregressive_transformer")
class AutoregressiveTransformer(CellModel):
    """Causal transformer that predicts the next gene and its expression bin.

    Parameters
    ----------
    vocab_size
        Number of tokens V, special ones included.
    n_bins
        Number of expression bins K.
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
        Add an embedding of each token's expression value to its embedding.
    layer_norm_eps
        Epsilon of the layer norms.
    gene_loss_weight, expression_loss_weight
        Weights of the two terms of the loss.
    attention_dropout
        Dropout on the attention weights.
    norm_placement, norm
        Where blocks normalise, ``pre``, ``post`` or ``stream``, and how, ``layer_norm`` or ``rms_norm``.
    activation_checkpointing
        Compute blocks once more on the way back in training instead of keeping what is inside them.
    use_positions
        Add an embedding of each token's position, for genes in an order that means something.
    readout
        What the heads read at a position: the ``mean`` of the hidden states it sees, or the ``last`` of them, its own.
    value_embedding
        ``bins`` gives each bin of the values, which lie between 0 and 1, a vector; ``linear`` projects them.
    gene_target
        ``one`` learns the gene that comes next, ``set`` all that come later, equally likely; for genes in random order.
    """

    config_class: ClassVar[type[AutoregressiveConfig]] = AutoregressiveConfig
    default_objective: ClassVar[str] = "next_gene_prediction"
    default_pooling: ClassVar[str] = "cls"
    allowed_objectives: ClassVar[tuple[str, ...]] = ("next_gene_prediction",)
    pretraining_parts: ClassVar[tuple[str, ...]] = (
        "readout_norm",
        "gene_head",
        "bin_gene_norm",
        "bin_input",
        "bin_head",
    )
    unused_settings: ClassVar[frozenset[str]] = frozenset({"decoder_dim", "decoder_layers", "decoder_heads"})
    is_causal: ClassVar[bool] = True
    takes_attention_bias: ClassVar[bool] = True

    def __init__(
        self,
        vocab_size: int,
        n_bins: int = 51,
        hidden_dim: int = 512,
        num_layers: int = 12,
        num_heads: int = 8,
        ffn_dim: int | None = None,
        dropout: float = 0.1,
        max_seq_len: int = 2048,
        pooling: str = "cls",
        activation: str = "gelu",
        use_expression_values: bool = True,
        layer_norm_eps: float = 1e-12,
        gene_loss_weight: float = 1.0,
        expression_loss_weight: float = 1.0,
        *,
        attention_dropout: float = 0.0,
        norm_placement: str = "pre",
        norm: str = "layer_norm",
        activation_checkpointing: bool = False,
        use_positions: bool = False,
        readout: str = "mean",
        value_embedding: str = "bins",
        gene_target: str = "one",
    ) -> None:
        super().__init__()
        _check_choice("readout", readout, ("mean", "last"))
        _check_choice("value_embedding", value_embedding, ("bins", "linear"))
        _check_choice("gene_target", gene_target, ("one", "set"))
        self.vocab_size = vocab_size
        self.n_bins = n_bins
        self.hidden_dim = hidden_dim
        self.max_seq_len = max_seq_len
        self.pooling = pooling
        self.gene_loss_weight = gene_loss_weight
        self.expression_loss_weight = expression_loss_weight
        self.gene_target = gene_target
        self._pool = get_pooling(pooling)
        self._has_warned = False
        self.embedding = GeneExpressionEmbedding(
            vocab_size,
            hidden_dim,
            max_seq_len=max_seq_len,
            dropout=dropout,
            use_expression_values=use_expression_values,
            layer_norm_eps=layer_norm_eps,
            use_positions=use_positions,
            value_bins=n_bins if value_embedding == "bins" else None,
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
        self.readout_norm = nn.LayerNorm(hidden_dim, eps=layer_norm_eps) if readout == "mean" else None
        self.gene_head = MaskedGenePredictionHead(hidden_dim, vocab_size, layer_norm_eps=layer_norm_eps)
        self.bin_gene_norm = nn.LayerNorm(hidden_dim, eps=layer_norm_eps)  # vectors start much smaller than states
        self.bin_input = nn.Linear(2 * hidden_dim, hidden_dim)
        self.bin_head = BinPredictionHead(hidden_dim, n_bins, layer_norm_eps=layer_norm_eps)
        self.apply(init_weights)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        *,
        bin_ids: torch.Tensor | None = None,
        prefix_len: torch.Tensor | None = None,
        no_repeats: torch.Tensor | None = None,
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
            Expression values, shape (B, S). ``None`` stands for zeros.
        labels
            Token ids to predict at each position, -100 where there is nothing to predict, shape (B, S). They are not
            shifted here: a batch of the objective has at t the gene of t + 1.
        bin_ids
            Expression bins of the genes in ``labels``, shape (B, S). Without them the loss has no term of bins.
        prefix_len
            Tokens at the beginning of each cell that see each other fully, shape (B,). ``None`` stands for none, i.e.
            causal attention.
        no_repeats
            If true, genes up to each position and special tokens get no probability there (except a label). With
            ``gene_target: set`` it is always so.
        return_logits
            Without it only the labelled positions are predicted and ``logits`` is ``None``: the same loss for less.
        output_hidden_states, output_attentions
            Give ``hidden_states``, ``attentions``.
        **kwargs
            Other keys of the batch, not used.

        Returns
        -------
        ``logits`` of genes, shape (B, S, V), ``embeddings``, shape (B, H), and with labels ``loss``: the weighted sum
        of the mean cross-entropies of genes and bins in nats, each 0 without targets; with ``gene_target: set`` that
        of genes is with a uniform distribution over the labels from there on. Under causal attention the
        first token sees nothing but itself, so ``embeddings`` of pooling ``cls`` are the same for all cells; use
        :meth:`encode`.

        Raises
        ------
        ConfigError
            If the sequences are longer than ``max_seq_len``.
        DataError
            If a token, a label or its bin is not one of the model's; checked on the CPU only.
        """
        if return_logits and labels is None:
            self._warn_of_blind_cls(prefix_len)
        mask = prefix_mask(input_ids.shape[1], prefix_len, input_ids.device)
        trace = Trace.asked(states=output_hidden_states, maps=output_attentions)
        hidden = self._hidden_states(input_ids, attention_mask, values, mask, **Trace.given(trace))  # (B, S, H)
        embeddings = self._pool(hidden, attention_mask)  # (B, H)
        states = self._read_out(hidden, attention_mask, mask)  # (B, S, H)
        excludes = self.gene_target == "set" or (no_repeats is not None and bool(no_repeats))
        special_ids = self.embedding.special_ids
        named, _ = blank_padding(input_ids.long(), None, attention_mask, pad_id=special_ids.pad)
        logits = self.gene_head(states) if return_logits else None  # (B, S, V)
        if logits is not None and excludes:
            logits = exclude_named_everywhere(logits, named, labels, special_ids=special_ids)
        if labels is None:
            return with_trace(ModelOutput(logits=logits, embeddings=embeddings), trace)
        self.embedding.check_ids(labels.masked_fill(labels == IGNORE_INDEX, 0))
        terms = next_gene_terms(self, states, labels, bin_ids, logits=logits, named=named if excludes else None)
        loss = torch.stack(list(terms.values())).sum()
        return with_trace(ModelOutput(loss=loss, logits=logits, embeddings=embeddings, loss_terms=terms), trace)

    def generate(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        values: torch.Tensor | None = None,
        **options: Any,
    ) -> GeneratedCells:
        """Name genes and bins one after another, starting from a prompt: :func:`generate_cells` with this model."""
        return generate_cells(self, input_ids, attention_mask, values, **options)

    def fill(
        self, input_ids: torch.Tensor, known_values: torch.Tensor, known_mask: torch.Tensor, **options: Any
    ) -> FilledCells:
        """Predict bins of genes from those that are known, each by itself: :func:`fill_cells` with this model."""
        return fill_cells(self, input_ids, known_values, known_mask, **options)

    def read_prefix(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, values: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return what the heads read after cells whose tokens all see each other.

        Parameters
        ----------
        input_ids, values
            Token ids and expression values, shape (B, S).
        attention_mask
            1 for tokens and 0 for padding on the right, shape (B, S).

        Returns
        -------
        Shape (B, H): that of :meth:`forward` at the last token of a prefix.
        """
        hidden = self._hidden_states(input_ids, attention_mask, values)
        if self.readout_norm is not None:
            return self.readout_norm(mean_pool(hidden, attention_mask))
        last = ((attention_mask != 0).sum(dim=1) - 1).clamp(min=0)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]

    def score_bins(self, hidden_states: torch.Tensor, genes: torch.Tensor) -> torch.Tensor:
        """Score the bins of given genes.

        Parameters
        ----------
        hidden_states
            What the heads read where the genes are to be named, shape (M, H).
        genes
            Token ids of the genes, shape (M,).

        Returns
        -------
        Unnormalised logits, shape (M, K).
        """
        gene = self.bin_gene_norm(self.embedding.gene_embedding(genes)).to(hidden_states.dtype)
        return self.bin_head(self.bin_input(torch.cat([hidden_states, gene], dim=-1)))

    @classmethod
    def from_config(cls, config: ModelConfig) -> AutoregressiveTransformer:
        """Make a model from settings.

        Parameters
        ----------
        config
            Settings with ``vocab_size`` set, plain ones or :class:`AutoregressiveConfig`.

        Raises
        ------
        ValueError
            If ``vocab_size`` is not set.
        """
        own = config if isinstance(config, AutoregressiveConfig) else AutoregressiveConfig()
        is_ordered = own.gene_order == "given"
        return cls(
            vocab_size=required_vocab_size(config),
            n_bins=config.n_bins,
            hidden_dim=config.hidden_dim,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            gene_loss_weight=config.gene_loss_weight,
            expression_loss_weight=config.expression_loss_weight,
            use_positions=is_ordered if own.use_positions is None else own.use_positions,
            readout=own.readout or ("last" if is_ordered else "mean"),
            value_embedding=own.value_embedding,
            gene_target=own.gene_target,
            **transformer_arguments(config, default_pooling=cls.default_pooling),
        )

    def _hidden_states(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None,
        mask: torch.Tensor | None = None,
        *,
        trace: Trace | None = None,
    ) -> torch.Tensor:
        pad_id = self.embedding.special_ids.pad
        input_ids, values = blank_padding(input_ids, values, attention_mask, pad_id=pad_id)
        bias = self.embedding.attention_bias(input_ids, values)
        return self.encoder(self.embedding(input_ids, values), attention_mask, mask, key_bias=bias, trace=trace)

    def _read_out(self, hidden: torch.Tensor, attention_mask: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return what the heads read at each position, shape (B, S, H)."""
        if self.readout_norm is None:
            return hidden
        return self.readout_norm(mean_seen(hidden, attention_mask, mask))

    def check_bins(self, bins: torch.Tensor) -> None:
        """Refuse bins there are not, where looking costs nothing: on the CPU.

        Raises
        ------
        DataError
            If there is one.
        """
        if bins.device.type != "cpu" or torch.compiler.is_compiling():
            return
        is_wrong = ((bins < 0) & (bins != IGNORE_INDEX)) | (bins >= self.n_bins)
        if is_wrong.any():
            msg = (
                f"bin {int(bins[is_wrong][0])} is none of 0 to {self.n_bins - 1}, the bins of the model "
                "(model.n_bins); use the number of bins of the tokenizer."
            )
            raise DataError(msg)

    def _warn_of_blind_cls(self, prefix_len: torch.Tensor | None) -> None:
        if self.pooling != "cls" or self._has_warned:
            return
        if prefix_len is None or bool((prefix_len <= 1).any()):
            self._has_warned = True
            _log.warning(
                "embeddings of forward() with pooling 'cls' and no prefix are the same for every cell, since the first "
                "token sees only itself; use encode(), or give prefix_len."
            )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        msg = f"model.{name} is {value!r}; choose one of {', '.join(choices)}."
        raise ConfigError(msg)
