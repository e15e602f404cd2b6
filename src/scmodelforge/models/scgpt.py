"""scGPT: a transformer on sets of genes with values, some of which it must predict.

Cui et al. 2024, doi:10.1038/s41592-024-02201-0. Blocks normalise after each addition, there are no positions, and
values are bins as real numbers (``tokenizer.strategy: binned_expression``; the settings of the published models are
those of its preset ``scgpt``). Hidden values are predicted from the hidden state of their gene (``masked_value``, in
the paper GEP) and from the vector of the cell alone (``gepc``).

With ``pretraining_task: masked_value_prediction`` all tokens see each other. With ``generative_value_prediction``, on
which the published models were trained, known genes see each other, and each of the others sees the known ones and
itself, with a flag in the place of its value; all are predicted at once, independent of each other. There is no order
of genes, and which gene comes next is never asked.

Where we differ:

- The amount of padding changes nothing, in ``pooling: mean`` neither.
- Genes to be generated go through the whole attention layer, output projection included; the published weights were
  trained without (``skip_output_projection``, which :func:`~scmodelforge.models.published.load_scgpt` sets).
- Each cell is divided into known genes and others by its own share, not each batch by one.
- The head that reads the vector of the cell starts with small predictions, whatever the width.
- Terms of single genes and cells are means over these; ``cce`` compares the cells of one device.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from scmodelforge._errors import DataError
from scmodelforge.config.own import own_settings
from scmodelforge.config.schema import ModelConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models._utils import init_weights, required_vocab_size
from scmodelforge.models.base import CellModel, transformer_arguments
from scmodelforge.models.components.attention import merge_masks
from scmodelforge.models.components.blocks import Trace, with_trace
from scmodelforge.models.components.flops import Parts
from scmodelforge.models.components.masking import hidden_positions
from scmodelforge.models.components.pooling import get_pooling
from scmodelforge.models.components.scgpt_inputs import ShownCells
from scmodelforge.models.components.scgpt_parts import ScGPTEmbedding, ValueHead, without_output_projection
from scmodelforge.models.components.scgpt_terms import Asked, ScGPTTerms
from scmodelforge.models.components.transformer import TransformerStack
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.models.registry import register_model
from scmodelforge.models.scgpt_config import GENERATIVE, ScGPTConfig

__all__ = ["ScGPT", "ScGPTConfig"]


@register_model("scgpt")
class ScGPT(CellModel):
    """Post-norm transformer on sets of genes with values, with the heads and losses of scGPT.

    Parameters
    ----------
    config
        Settings with ``vocab_size`` set.

    Attributes
    ----------
    head
        Values from hidden states.
    terms
        What else is learned, with the heads that read vectors of cells.

    Raises
    ------
    ConfigError
        If ``vocab_size`` is not set, or a number of classes that is needed.
    """

    config_class: ClassVar[type[ScGPTConfig]] = ScGPTConfig
    default_objective: ClassVar[str] = "masked_value_prediction"
    default_pooling: ClassVar[str] = "cls"
    takes_attention_bias: ClassVar[bool] = True
    value_masking: ClassVar[str] = "no effect"
    # A low `dab` says that batches can be told, and the other two depend on which cells are together.
    terms_apart: ClassVar[frozenset[str]] = frozenset({"dab", "ecs", "cce"})
    allowed_objectives: ClassVar[tuple[str, ...]] = ("masked_value_prediction", GENERATIVE)
    pretraining_parts: ClassVar[tuple[str, ...]] = ("head", "terms.value_head", "terms.class_head", "terms.batch_head")
    unused_settings: ClassVar[frozenset[str]] = frozenset(
        {"n_bins", "gene_loss_weight", "expression_loss_weight", "decoder_dim", "decoder_layers", "decoder_heads"}
    )

    def __init__(self, config: ScGPTConfig) -> None:
        super().__init__()
        shared = transformer_arguments(config, default_pooling=self.default_pooling)
        dim = config.hidden_dim
        self.config = config
        self.vocab_size, self.hidden_dim, self.pooling = required_vocab_size(config), dim, shared["pooling"]
        self.mask_value, self.divides_embeddings = config.mask_value, config.l2_embeddings
        self.skips_output_projection = config.skip_output_projection
        self.is_generative = config.pretraining_task == GENERATIVE
        self._pool_cells = get_pooling(self.pooling)
        self.embedding = ScGPTEmbedding(
            self.vocab_size,
            dim,
            max_seq_len=config.max_seq_len,
            dropout=config.dropout,
            use_expression_values=config.use_expression_values,
            layer_norm_eps=config.layer_norm_eps,
            has_flags=self.is_generative,
        )
        self.encoder = TransformerStack(
            dim,
            config.num_layers,
            config.num_heads,
            ffn_dim=config.ffn_dim or dim,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            activation=config.activation,
            layer_norm_eps=config.layer_norm_eps,
            norm_placement=config.norm_placement,
            norm=config.norm,
            checkpointing=config.activation_checkpointing,
        )
        self.head = ValueHead(dim)
        self.terms = ScGPTTerms(config)
        self.apply(init_weights)
        self.terms.reset()

    @classmethod
    def from_config(cls, config: ModelConfig) -> ScGPT:
        """Make a model from settings.

        Parameters
        ----------
        config
            Settings with ``vocab_size`` set, plain ones or :class:`ScGPTConfig`.

        Raises
        ------
        ConfigError
            If ``vocab_size`` is not set, or the settings do not fit.
        """
        return cls(own_settings("model", "scgpt", config, ScGPTConfig))

    @property
    def flop_parts(self) -> Parts:
        """What a pass of training computes on."""
        return self.terms.flop_parts(is_generative=self.is_generative)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        *,
        targets: torch.Tensor | None = None,
        masked_positions: torch.Tensor | None = None,
        gene_ids: torch.Tensor | None = None,
        prefix_len: torch.Tensor | None = None,
        cell_types: torch.Tensor | None = None,
        batch_labels: torch.Tensor | None = None,
        cell_vectors: torch.Tensor | None = None,
        return_logits: bool = True,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> ModelOutput:
        """Predict the value of the gene at every position, with the loss when labels are given.

        Parameters
        ----------
        input_ids
            Token ids, shape (B, S).
        attention_mask
            1 for real tokens and 0 for padding, shape (B, S), of any type. What stands at padding has no effect.
        values
            Expression values, shape (B, S). ``None`` stands for zeros. Those at hidden positions are no input.
        labels
            True token ids, -100 where no value is asked for, shape (B, S).
        targets
            True values where there are labels, shape (B, S).
        masked_positions
            Where values are hidden, shape (B, S); ``None`` hides those with a label.
        gene_ids
            The gene at every position, shape (B, S), read where values are hidden; else ``labels``, else
            ``input_ids`` say which gene it is.
        prefix_len
            Known tokens at the beginning of each cell, shape (B,); the values of those after them are generated. Read
            by a model with ``pretraining_task: generative_value_prediction`` only.
        cell_types, batch_labels
            Class of each cell, -100 where unknown, shape (B,); read with ``cls_weight``, ``dab_weight`` only.
        cell_vectors
            Take the place of the first token's embedding, shape (B, H).
        return_logits
            Without it only the labelled positions are predicted and ``logits`` is ``None``: the same loss for less.
        output_hidden_states, output_attentions
            Give ``hidden_states``, ``attentions``.
        **kwargs
            Other keys of the batch, not used.

        Returns
        -------
        ``logits``, the predicted values, shape (B, S), ``embeddings``, shape (B, H), which know nothing of genes to
        generate, and with labels ``loss`` and its terms.

        Raises
        ------
        ConfigError
            If the sequences are longer than ``max_seq_len``.
        DataError
            If a token is not in the vocabulary (checked on the CPU only), or labels come without ``targets``, or
            classes of cells are needed and missing.
        """
        shown = self._shown(
            input_ids,
            attention_mask,
            values,
            is_hidden=hidden_positions(masked_positions, labels, attention_mask != 0),
            asked=gene_ids if gene_ids is not None else labels,
            prefix_len=prefix_len if self.is_generative else None,
        )
        trace = Trace.asked(states=output_hidden_states, maps=output_attentions)
        hidden = self._transformed(shown, cell_vectors=cell_vectors, trace=trace)  # (B, S, H)
        cells = self._pool_cells(hidden, shown.is_known)  # (B, H)
        embeddings = self._divided(cells)
        logits = self.head(hidden) if return_logits else None  # (B, S)
        if labels is None:
            return with_trace(ModelOutput(logits=logits, embeddings=embeddings), trace)
        if targets is None:
            msg = "labels without targets: scgpt predicts values and needs them; give the batch of its objective."
            raise DataError(msg)
        is_target = labels != IGNORE_INDEX
        asked = Asked(is_target, targets[is_target], self.embedding.genes(shown.ids[is_target]))
        predicted = self.head(hidden[is_target]) if logits is None else logits[is_target]
        own = "masked_value" if shown.is_generated is None else "generative_value"

        def from_cells(vectors: torch.Tensor) -> torch.Tensor:
            return self.head(self._transformed(shown, cell_vectors=vectors)[is_target])

        terms = {own: asked.mean_error(predicted)} | self.terms(
            cells,
            asked,
            again=lambda: self._pool_cells(self._transformed(shown), shown.is_known),
            from_cells=None if shown.is_generated is None else from_cells,
            cell_types=cell_types,
            batch_labels=batch_labels,
        )
        loss = torch.stack(list(terms.values())).sum()
        return with_trace(ModelOutput(loss=loss, logits=logits, embeddings=embeddings, loss_terms=terms), trace)

    def predict_from_cells(self, gene_ids: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """Predict values of genes from vectors of cells alone (MVC of scGPT).

        Parameters
        ----------
        gene_ids
            Tokens of genes, shape (B, S).
        cells
            Vectors of cells as the transformer gives them, not divided by their length, shape (B, H).

        Returns
        -------
        Shape (B, S).

        Raises
        ------
        DataError
            If the model has no such head, or a token is not in the vocabulary; the latter checked on the CPU only.
        """
        if self.terms.value_head is None:
            msg = "this scgpt has no head that reads vectors of cells (model.gepc_weight is 0); train one that has."
            raise DataError(msg)
        self.embedding.check_ids(gene_ids)
        return self.terms.value_head(self.embedding.genes(gene_ids), cells[:, None])

    def score_cell_types(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        **ignored: Any,
    ) -> torch.Tensor:
        """Score cell types with nothing hidden, shape (B, C). Parameters as of ``encode``.

        Raises
        ------
        ConfigError
            If the model was made without a head for them (``model.cls_weight``).
        """
        hidden = self._hidden_states(input_ids, attention_mask, values)
        return self.terms.classify(self._pool_cells(hidden, attention_mask))

    def _pool(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        return self._divided(self._pool_cells(hidden_states, attention_mask))

    def _divided(self, cells: torch.Tensor) -> torch.Tensor:
        return F.normalize(cells, dim=1) if self.divides_embeddings else cells

    def _hidden_states(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None,
        *,
        trace: Trace | None = None,
    ) -> torch.Tensor:
        return self._transformed(self._shown(input_ids, attention_mask, values), trace=trace)

    def _shown(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, values: torch.Tensor | None, **more: Any
    ) -> ShownCells:
        pad_id, mask_value = self.embedding.special_ids.pad, self.mask_value
        return ShownCells.of(input_ids, attention_mask, values, pad_id=pad_id, mask_value=mask_value, **more)

    def _transformed(
        self, shown: ShownCells, *, cell_vectors: torch.Tensor | None = None, trace: Trace | None = None
    ) -> torch.Tensor:
        """Return the hidden state of every token, shape (B, S, H)."""
        is_generated, mask = shown.is_generated, shown.mask
        embedded = self.embedding(shown.ids, shown.values, is_hidden=shown.is_hidden, is_generated=is_generated)
        if cell_vectors is not None:
            embedded = torch.cat([cell_vectors[:, None].to(embedded.dtype), embedded[:, 1:]], dim=1)
        bias = self.embedding.attention_bias(shown.ids, shown.values)
        if is_generated is None or not self.skips_output_projection:
            return self.encoder(embedded, shown.is_real, mask, key_bias=bias, trace=trace)
        with without_output_projection(self.encoder, is_generated):
            # One mask of pairs for both, so that tensors stay padded and rows can be told.
            return self.encoder(embedded, None, merge_masks(shown.is_real, mask), key_bias=bias, trace=trace)
