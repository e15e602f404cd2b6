"""Settings that transformers have beside the common ones of a model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scmodelforge.config.schema import ModelConfig

__all__ = ["TransformerConfig"]


class TransformerConfig(ModelConfig):
    """Settings of the transformers."""

    attention_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the attention weights."""
    norm_placement: Literal["pre", "post", "stream"] = "pre"
    """Where blocks normalise: ``pre`` at the beginning of each branch, and once more at the end; ``post`` after each
    addition; ``stream`` before each branch, which is added to what was normalised."""
    norm: Literal["layer_norm", "rms_norm"] = "layer_norm"
    """Norm of the blocks."""
    activation_checkpointing: bool = False
    """Compute blocks once more on the way back instead of keeping what is inside them: less memory, a third slower."""
