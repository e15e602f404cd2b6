"""Settings of a model with a head for a task of its own."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_serializer, model_validator

from scmodelforge.config.backbone import SHARED, parsed_backbone, with_backbone
from scmodelforge.config.schema import ModelConfig, Section

__all__ = ["CellTypeHeadConfig", "FineTunedConfig"]


class CellTypeHeadConfig(Section):
    """Settings of a head that names the type of a cell.

    The head that BERT's sequence classifier has is ``pooling: first, hidden_layers: 1, activation: tanh``.
    """

    kind: Literal["cell_types"] = "cell_types"
    """What the head predicts. Its other settings are those of this kind."""
    pooling: Literal["embedding", "first"] = "embedding"
    """What the head reads: the ``embedding`` of the cell, or the hidden state of its ``first`` token."""
    hidden_layers: int = Field(1, ge=0)
    """Layers before the last one, each as wide as what the head reads."""
    activation: Literal["tanh", "gelu", "relu", "silu"] = "tanh"
    """Activation after each of these."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """Dropout before the last layer; ``None`` is that of the backbone."""


class FineTunedConfig(ModelConfig):
    """Settings of a model of another architecture with a head.

    ``backbone`` are settings as that architecture has them by itself. They are the home of what both have in common
    (width, layers, length ...): here that is read only, follows them, and is not written to files.

    A head of another kind is another class with its own ``kind`` and settings; ``head`` is then a union of these that
    ``kind`` tells apart, so that files of today stay as they are. The same holds for further fields beside ``head``
    whose default is to have no effect, such as one for adapters.
    """

    architecture: str = "fine_tuned"
    """Registered model."""
    backbone: SerializeAsAny[ModelConfig] = Field(default_factory=ModelConfig, validate_default=True)
    """The model that reads the tokens: ``architecture`` and the settings this has."""
    head: CellTypeHeadConfig = Field(default_factory=CellTypeHeadConfig)
    """What reads the backbone."""
    num_cell_types: int | None = Field(None, gt=0)
    """Cell types of the head; filled from ``data.label_column`` when a run starts. ``None`` makes no head."""

    @property
    def counted_terms(self) -> dict[str, str]:
        """What each loss term is a mean over."""
        return {"annotation": "cell_types"}

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
