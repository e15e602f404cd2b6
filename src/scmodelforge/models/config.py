"""Settings that transformers have beside the common ones of a model."""

from __future__ import annotations

from pydantic import Field

from scmodelforge.config.schema import ModelConfig

__all__ = ["TransformerConfig"]


class TransformerConfig(ModelConfig):
    """Settings of the transformers."""

    attention_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the attention weights."""
