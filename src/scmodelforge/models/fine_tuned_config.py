"""Settings of a model with a head for a task of its own."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_serializer, model_validator

from scmodelforge.config.backbone import SHARED, parsed_backbone, with_backbone
from scmodelforge.config.finetune_sections import AdapterConfig
from scmodelforge.config.head import HeadConfig
from scmodelforge.config.own import own_settings
from scmodelforge.config.parts import HEAD
from scmodelforge.config.schema import ModelConfig

__all__ = ["CellHeadConfig", "CellTypeHeadConfig", "FineTunedConfig", "HeadConfig"]


class CellHeadConfig(HeadConfig):
    """Settings of a head that says something of each cell.

    The head that BERT's sequence classifier has is ``pooling: first, hidden_layers: 1, activation: tanh``.
    """

    pooling: Literal["embedding", "first"] = "embedding"
    """What the head reads: the ``embedding`` of the cell, or the hidden state of its ``first`` token."""
    hidden_layers: int = Field(1, ge=0)
    """Layers before the last one, each as wide as what the head reads."""
    activation: Literal["tanh", "gelu", "relu", "silu"] = "tanh"
    """Activation after each of these."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """Dropout before the last layer; ``None`` is that of the backbone."""
    standardised: bool = False
    """Whether embeddings are standardised by the training cells before the head reads them. A run of fine-tuning sets
    it where the base model is frozen; weights hold the means and standard deviations."""

    @property
    def reads(self) -> Literal["cells", "first", "tokens"]:
        """What it reads of the backbone."""
        return "first" if self.pooling == "first" else "cells"


class CellTypeHeadConfig(CellHeadConfig):
    """Settings of a head that names the type of a cell."""

    terms: ClassVar[dict[str, str]] = {"annotation": "cell_types", "annotation_error": "cell_types"}
    sizes: ClassVar[tuple[str, ...]] = ("num_cell_types",)
    filled: ClassVar[dict[str, str]] = {"class_weights": "finetune.class_weights"}

    kind: Literal["cell_types"] = "cell_types"
    """What the head predicts. Its other settings are those of this kind."""
    class_weights: list[float] | None = None
    """What a cell of each type counts in the loss, in the order of the types; ``None`` is 1 each. A run of fine-tuning
    fills it in from ``finetune.class_weights``."""


class FineTunedConfig(ModelConfig):
    """Settings of a model of another architecture with a head.

    ``backbone`` are settings as that architecture has them by itself. They are the home of what both have in common
    (width, layers, length ...): here that is read only, follows them, and is not written to files.

    ``head`` has the settings of its ``kind``, which are a class of their own (:data:`~scmodelforge._registry.HEADS`).
    Further fields beside it have defaults without effect, so that files of today stay as they are.
    """

    architecture: str = "fine_tuned"
    """Registered model."""
    backbone: SerializeAsAny[ModelConfig] = Field(default_factory=ModelConfig, validate_default=True)
    """The model that reads the tokens: ``architecture`` and the settings this has."""
    head: SerializeAsAny[HeadConfig] = Field(default_factory=CellTypeHeadConfig)
    """What reads the backbone: its ``kind``, and the settings this has."""
    adapter: AdapterConfig | None = None
    """Low-rank adapters in the backbone, which are then all of it that is trained; ``None`` has none. Set by
    ``finetune.adaptation``."""
    num_cell_types: int | None = Field(None, gt=0)
    """Cell types of the head; filled from ``data.label_column`` when a run starts. ``None`` makes no head."""
    num_batches: int | None = Field(None, gt=0)
    """Batches of a head that learns from them; filled from ``data.batch_column`` when a run starts."""

    @property
    def counted_terms(self) -> dict[str, str]:
        """What each loss term is a mean over."""
        return self.head.counted_terms

    @property
    def default_objective(self) -> str:
        """The objective of the head."""
        return self.head.objective

    @property
    def allowed_objectives(self) -> tuple[str, ...]:
        """The objectives that the head can be trained by."""
        return (self.head.objective,)

    @property
    def has_head(self) -> bool:
        """Whether all that sizes the head is set, so that it can be made."""
        return all(getattr(self, name) is not None for name in self.head.sizes)

    def backbone_settings(self) -> ModelConfig:
        """Return the settings of the backbone, with the vocabulary's size."""
        return self.backbone.model_copy(update={**self._written_here(), "vocab_size": self.vocab_size})

    def check_vocab_size(self, vocab_size: int) -> None:
        """Refuse a number of tokens that the backbone refuses."""
        if hasattr(self.backbone, "check_vocab_size"):
            self.backbone.check_vocab_size(vocab_size)

    @model_validator(mode="before")
    @classmethod
    def _each_fact_in_its_home(cls, values: Any) -> Any:
        is_assignment = isinstance(values, dict) and values.keys() >= SHARED  # of one field to settings that are whole
        if is_assignment or not isinstance(values, dict):
            return values
        return with_backbone({"architecture": "fine_tuned", **values})

    @field_validator("backbone", mode="before")
    @classmethod
    def _backbone_is_of_its_class(cls, value: Any) -> Any:
        return parsed_backbone(value)

    @field_validator("head", mode="before")
    @classmethod
    def _head_is_of_its_class(cls, value: Any) -> Any:
        return _parsed_head(value)

    @model_validator(mode="after")
    def _follow_the_backbone(self) -> FineTunedConfig:
        changes = self._written_here()  # assigned later: what was read has no such setting here
        if changes:
            self.__dict__["backbone"] = self.backbone.model_copy(update=changes)
            self.__pydantic_fields_set__.difference_update(changes)
        self.__dict__.update({name: getattr(self.backbone, name) for name in SHARED})
        return self

    def _written_here(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in SHARED & self.model_fields_set}

    @model_serializer(mode="wrap")
    def _without_copies(self, write: Any) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        for name in ("vocab_size", "mask_ratio"):
            written["backbone"].pop(name, None)
        return {name: value for name, value in written.items() if name not in SHARED}


def _parsed_head(value: Any) -> Any:
    """Return settings of a head as those of its kind.

    Raises
    ------
    ValueError
        If there is no such kind or the settings do not fit it.
    """
    if isinstance(value, HeadConfig):
        return own_settings("model.head", value.kind, value, HEAD.section_class(value.kind))
    if not isinstance(value, dict) or not isinstance(HEAD.name_in(value), str):
        return value
    try:
        return HEAD.section_class(HEAD.name_in(value)).model_validate(value)
    except ValidationError as problem:
        faults = "; ".join(f"model.head.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problem.errors())
        raise ValueError(faults) from None
