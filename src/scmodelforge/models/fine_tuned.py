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
from scmodelforge._registry import HEADS
from scmodelforge.config.finetune_sections import AdapterConfig
from scmodelforge.config.own import own_settings
from scmodelforge.config.schema import ModelConfig
from scmodelforge.models._fine_tuned_parts import check_readable, summed, without_pretraining
from scmodelforge.models._utils import count_parameters, required_vocab_size
from scmodelforge.models.components.adapters import inject_adapters
from scmodelforge.models.components.flops import forward_flops
from scmodelforge.models.fine_tuned_config import CellTypeHeadConfig, FineTunedConfig
from scmodelforge.models.fine_tuned_heads import Seen
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.models.registry import get_model, register_model

__all__ = ["CellTypeHeadConfig", "FineTuneModel", "FineTunedConfig"]

_NO_HEAD = (
    "this fine_tuned model has no head (model.num_cell_types is not set); train one, or set it to the number of cell "
    "types."
)


@register_model("fine_tuned")
class FineTuneModel(nn.Module):
    """A model of any architecture with a head.

    Parameters
    ----------
    config
        Settings with ``vocab_size`` set.

    Attributes
    ----------
    backbone
        The model that reads the tokens, without what only its pretraining needed.
    head
        What reads the backbone; ``None`` where what sizes it is not set, such as the number of cell types.

    Raises
    ------
    ConfigError
        If ``vocab_size`` is not set, the settings do not fit the backbone, or it has not what the head reads.
    """

    config_class: ClassVar[type[FineTunedConfig]] = FineTunedConfig
    default_objective: ClassVar[str] = "cell_type_annotation"  # of the usual head; settings say which theirs is
    allowed_objectives: ClassVar[tuple[str, ...]] = ("cell_type_annotation",)
    logits_of: ClassVar[str] = "cells"
    # What the backbone does not read it names itself.
    unused_settings: ClassVar[frozenset[str]] = frozenset({"gene_loss_weight", "expression_loss_weight"})

    def __init__(self, config: FineTunedConfig) -> None:
        super().__init__()
        self.config = config
        self.vocab_size, self.hidden_dim = required_vocab_size(config), config.hidden_dim
        settings = config.backbone_settings()
        self.backbone: Any = without_pretraining(get_model(settings.architecture, settings))
        check_readable(self.backbone, settings.architecture, config.head)
        self.head: Any = None
        if config.has_head:
            width = self.embedding_dim if config.head.reads == "cells" else settings.hidden_dim
            make: Any = HEADS.get(config.head.kind)
            self.head = make(config, width=width, dropout=settings.dropout)
        if config.adapter is not None:
            self.add_adapter(config.adapter)

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

    def add_adapter(self, adapter: AdapterConfig) -> None:
        """Put low-rank adapters into the backbone, whose other weights are no longer trained.

        Raises
        ------
        ConfigError
            If the backbone has no such linear layers.
        ImportError
            If ``peft`` is not installed.
        """
        inject_adapters(self.backbone, adapter, name=self.config.backbone.architecture)
        self.config = self.config.model_copy(update={"adapter": adapter})

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
            Class of each cell, -100 where unknown, shape (B,), for a head that learns from it.
        return_logits
            Without it ``logits`` is ``None``.
        output_hidden_states, output_attentions
            Give ``hidden_states``, ``attentions`` of the backbone, which takes a pass of its own.
        **kwargs
            Other labels that the head learns from, and other keys of the batch, which the backbone may read.

        Returns
        -------
        ``logits``, what the head gives, for cell types scores of shape (B, C); ``embeddings``, those of the backbone;
        and with labels ``loss``, the sum of the head's terms but for those apart: for cell types the mean cross-entropy
        over the cells whose type is known, in nats, 0 if there are none (``annotation``).

        Raises
        ------
        ConfigError
            If the sequences are longer than ``max_seq_len``, or types are given and there is no head.
        DataError
            If a token is not in the vocabulary, or a class does not exist; checked on the CPU only.
        """
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "values": values, **kwargs}
        labels = self._take_labels({"cell_types": cell_types} if cell_types is not None else {}, batch)
        traced = ModelOutput()
        if output_hidden_states or output_attentions:
            asked = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
            traced = self._look_inside(batch, **asked)
        scores, terms = None, None
        if labels or (return_logits and self.head is not None):
            scores, seen = self._score(batch)
            embeddings = seen.cells
            terms = self.head.loss_terms(scores, labels, seen) if labels else None
        else:
            embeddings = self.encode(**batch)
        return ModelOutput(
            loss=None if terms is None else summed(terms, apart=self._measures),
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
            If there is no head, or one of another kind.
        """
        if self.config.head.kind != "cell_types":
            msg = f"the head of this model is of kind '{self.config.head.kind}' and names no cell types."
            raise ConfigError(msg)
        return self.score(input_ids, attention_mask, values, **kwargs)

    def score(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Return what the head gives. Parameters as of ``forward``; labels have no effect.

        Raises
        ------
        ConfigError
            If there is no head.
        """
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "values": values, **kwargs}
        self._take_labels({}, batch)
        return self._score(batch)[0]

    @property
    def terms_apart(self) -> frozenset[str]:
        """Terms of the head that do not count when it is told how good the model is."""
        found: frozenset[str] = getattr(self.head, "terms_apart", frozenset())
        return found | self._measures

    @property
    def _measures(self) -> frozenset[str]:
        """Terms of the head that are no loss, and are given in evaluation only."""
        found: frozenset[str] = getattr(self.head, "measures", frozenset())
        return found

    def set_step(self, step: int) -> None:
        """Tell the head how many steps are done, if it asks."""
        if hasattr(self.head, "set_step"):
            self.head.set_step(step)

    @property
    def forward_flops(self) -> Callable[[dict[str, Any]], int]:
        """What tells the FLOPs of one pass forward on a batch on the host; of a backbone that tells its own only."""
        own = self.backbone.forward_flops
        parts = getattr(self.backbone, "flop_parts", None)

        def tell(batch: dict[str, Any]) -> int:
            head = forward_flops(self, [("head", 1)], batch)
            if "cell_embeddings" in batch:
                return head
            # An embedding needs each part once, whatever pretraining repeats.
            flops = own(batch) if parts is None else forward_flops(self.backbone, dict.fromkeys(parts), batch)
            return int(flops) + head

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

    def _take_labels(self, given: dict[str, torch.Tensor], batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Take what the head learns from out of a batch, in place: nothing that reads the tokens may see it."""
        if given and self.head is None:
            raise ConfigError(_NO_HEAD)
        own = () if self.head is None else self.head.labels
        found = {name: batch.pop(name) for name in own if name in batch}
        return {**{name: value for name, value in given.items() if name in own}, **found}

    def _score(self, batch: dict[str, Any]) -> tuple[torch.Tensor, Seen]:
        """Return what the head gives, and what it saw."""
        if self.head is None:
            raise ConfigError(_NO_HEAD)
        tokens = None
        if self.config.head.reads == "cells":
            given = batch.pop("cell_embeddings", None)
            cells = self.encode(**batch) if given is None else given
        else:
            cells, tokens = self.backbone.encode_tokens(**batch)
        seen = Seen(cells, tokens, batch, self.backbone)
        return self.head(seen), seen

    def _look_inside(self, batch: dict[str, Any], **asked: bool) -> ModelOutput:
        """Return what the backbone gives, with nothing hidden and nothing asked for."""
        seen = {name: value for name, value in batch.items() if name not in ("labels", "masked_positions")}
        seen["prefix_len"] = (batch["attention_mask"] != 0).sum(dim=1)  # each token sees the whole cell, as in encode
        output: ModelOutput = self.backbone(**seen, return_logits=False, **asked)
        return output
