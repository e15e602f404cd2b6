"""A model of any architecture with a head for a task of its own.

The backbone reads the tokens as it does by itself; a head reads the embedding of the cell or the hidden state of its
first token, and is trained with it. The head of BERT (Devlin et al. 2019, doi:10.18653/v1/N19-1423) and so of
Geneformer's cell classifiers, a dense layer and tanh on the first token, is one of those that settings can make.

What of the backbone only its pretraining needed, such as the head that names hidden genes, is left out: it would not be
trained, and would be saved all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.config.own import own_settings
from scmodelforge.config.schema import ModelConfig
from scmodelforge.models._scdiva_losses import annotation_term
from scmodelforge.models._utils import count_parameters, required_vocab_size
from scmodelforge.models.components.flops import forward_flops
from scmodelforge.models.fine_tuned_config import CellTypeHeadConfig, FineTunedConfig
from scmodelforge.models.fine_tuned_heads import HEADS, CellTypeHead
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.models.registry import get_model, register_model

__all__ = ["CellTypeHeadConfig", "FineTuneModel", "FineTunedConfig"]


@register_model("fine_tuned")
class FineTuneModel(nn.Module):
    """A model of any architecture with a head that names cell types.

    Parameters
    ----------
    config
        Settings with ``vocab_size`` set.

    Attributes
    ----------
    backbone
        The model that reads the tokens, without what only its pretraining needed.
    head
        Scores of cell types; ``None`` where their number is not set.

    Raises
    ------
    ConfigError
        If ``vocab_size`` is not set, the settings do not fit the backbone, or it has not what the head reads.
    """

    config_class: ClassVar[type[FineTunedConfig]] = FineTunedConfig
    default_objective: ClassVar[str] = "cell_type_annotation"
    allowed_objectives: ClassVar[tuple[str, ...]] = ("cell_type_annotation",)
    logits_of: ClassVar[str] = "cells"
    # What the backbone does not read it names itself.
    unused_settings: ClassVar[frozenset[str]] = frozenset({"gene_loss_weight", "expression_loss_weight"})

    def __init__(self, config: FineTunedConfig) -> None:
        super().__init__()
        self.config = config
        self.vocab_size, self.hidden_dim = required_vocab_size(config), config.hidden_dim
        settings = config.backbone_settings()
        self.backbone: Any = _without_pretraining(get_model(settings.architecture, settings))
        _check_readable(self.backbone, settings.architecture, config.head)
        self.head: CellTypeHead | None = None
        if config.num_cell_types is not None:
            reads_tokens = config.head.pooling == "first"
            width = settings.hidden_dim if reads_tokens else self.embedding_dim
            make = HEADS[config.head.kind]
            self.head = make(config.head, width, config.num_cell_types, dropout=settings.dropout)

    @classmethod
    def from_config(cls, config: ModelConfig) -> FineTuneModel:
        """Make a model from settings.

        Parameters
        ----------
        config
            Settings with ``vocab_size`` set, plain ones or :class:`FineTunedConfig`.

        Raises
        ------
        ConfigError
            As for the class.
        """
        return cls(own_settings("model", "fine_tuned", config, FineTunedConfig))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        *,
        cell_types: torch.Tensor | None = None,
        return_logits: bool = True,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> ModelOutput:
        """Score cell types, with the loss when types are given.

        Parameters
        ----------
        input_ids
            Token ids, shape (B, S).
        attention_mask
            1 for real tokens and 0 for padding, shape (B, S), of any type. What stands at padding has no effect.
        values
            Expression values, shape (B, S). ``None`` stands for zeros.
        cell_types
            Class of each cell, -100 where unknown, shape (B,).
        return_logits
            Without it ``logits`` is ``None``.
        output_hidden_states, output_attentions
            Give ``hidden_states``, ``attentions`` of the backbone, which takes a pass of its own.
        **kwargs
            Other keys of the batch, which the backbone may read.

        Returns
        -------
        ``logits``, scores of cell types, shape (B, C); ``embeddings``, those of the backbone; and with types ``loss``,
        the mean cross-entropy over the cells whose type is known, in nats, 0 if there are none (``annotation``).

        Raises
        ------
        ConfigError
            If the sequences are longer than ``max_seq_len``, or types are given and there is no head.
        DataError
            If a token is not in the vocabulary, or a class does not exist; checked on the CPU only.
        """
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "values": values, **kwargs}
        traced = ModelOutput()
        if output_hidden_states or output_attentions:
            asked = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
            traced = self._look_inside(batch, **asked)
        scores, terms = None, None
        if cell_types is not None or (return_logits and self.head is not None):
            scores, embeddings = self._score(batch)
        else:
            embeddings = self.encode(**batch)
        if scores is not None and cell_types is not None:
            terms = annotation_term(scores, cell_types)
        return ModelOutput(
            loss=None if terms is None else terms["annotation"],
            logits=scores if return_logits else None,
            embeddings=embeddings,
            hidden_states=traced.hidden_states,
            loss_terms=terms,
            attentions=traced.attentions,
        )

    def encode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Embed cells as the backbone does, shape (B, H). Parameters as of ``forward``."""
        found: torch.Tensor = self.backbone.encode(input_ids, attention_mask, values, **kwargs)
        return found

    def score_cell_types(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Score cell types, shape (B, C). Parameters as of ``forward``.

        Raises
        ------
        ConfigError
            If there is no head.
        """
        return self._score({"input_ids": input_ids, "attention_mask": attention_mask, "values": values, **kwargs})[0]

    @property
    def forward_flops(self) -> Callable[[dict[str, Any]], int]:
        """What tells the FLOPs of one pass forward on a batch on the host; of a backbone that tells its own only."""
        own = self.backbone.forward_flops
        parts = getattr(self.backbone, "flop_parts", None)

        def tell(batch: dict[str, Any]) -> int:
            # An embedding needs each part once, whatever pretraining repeats.
            flops = own(batch) if parts is None else forward_flops(self.backbone, dict.fromkeys(parts), batch)
            return int(flops) + forward_flops(self, [("head", 1)], batch)

        return tell

    @property
    def embedding_dim(self) -> int:
        """Width of embeddings."""
        return int(getattr(self.backbone, "embedding_dim", self.hidden_dim))

    @property
    def embedding(self) -> Any:
        """The backbone's embedding of tokens."""
        return self.backbone.embedding

    @property
    def takes_attention_bias(self) -> bool:
        """Whether the backbone's attention gets what its embedding's ``attention_bias`` gives."""
        return bool(getattr(self.backbone, "takes_attention_bias", False))

    @property
    def only_value_use(self) -> str | None:
        """The one use of values that the backbone has, if that is so."""
        return getattr(self.backbone, "only_value_use", None)

    @property
    def fixed_vocabulary(self) -> str | None:
        """Why the backbone can know no more genes, if that is so."""
        return getattr(self.backbone, "fixed_vocabulary", None)

    @property
    def blocks_to_shard(self) -> Any:
        """The blocks that the backbone names for sharded training, if it does."""
        return getattr(self.backbone, "blocks_to_shard", None)

    def num_parameters(self, trainable_only: bool = True) -> int:
        """Count the parameters, all of them or those that are trained."""
        return count_parameters(self, trainable_only=trainable_only)

    def _score(self, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores of cell types, shape (B, C), and embeddings of cells, shape (B, H)."""
        if self.head is None:
            msg = (
                "this fine_tuned model has no head (model.num_cell_types is not set); train one, or set it to the "
                "number of cell types."
            )
            raise ConfigError(msg)
        if not self.head.reads_tokens:
            cells = self.encode(**batch)
            return self.head(cells), cells
        cells, tokens = self.backbone.encode_tokens(**batch)
        return self.head(cells, tokens, batch["attention_mask"]), cells

    def _look_inside(self, batch: dict[str, Any], **asked: bool) -> ModelOutput:
        """Return what the backbone gives, with nothing hidden and nothing asked for."""
        seen = {name: value for name, value in batch.items() if name not in ("labels", "masked_positions")}
        seen["prefix_len"] = (batch["attention_mask"] != 0).sum(dim=1)  # each token sees the whole cell, as in encode
        output: ModelOutput = self.backbone(**seen, return_logits=False, **asked)
        return output


def _without_pretraining(model: nn.Module) -> nn.Module:
    """Take out of a model what it names as needed by its pretraining only, in place."""
    for name in getattr(model, "pretraining_parts", ()):
        owner, _, part = name.rpartition(".")
        setattr(model.get_submodule(owner), part, None)
    return model


def _check_readable(backbone: nn.Module, name: str, head: CellTypeHeadConfig) -> None:
    """Refuse a head that reads tokens of a model that gives none, or whose first one knows nothing of the others."""
    if head.pooling != "first":
        return
    lacks = None if hasattr(backbone, "encode_tokens") else "has no hidden state of each token"
    if lacks is None and not getattr(backbone, "first_sees_cell", True):
        lacks = "has a first token that sees no other"
    if lacks is not None:
        msg = f"model.head.pooling is 'first', but architecture '{name}' {lacks}; set it to 'embedding'."
        raise ConfigError(msg)
