"""Settings of masked diffusion."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scmodelforge.models.config import TransformerConfig

__all__ = ["ScDivaDiffusionConfig"]


class ScDivaDiffusionConfig(TransformerConfig):
    """Settings of masked diffusion."""

    activation: str = "swiglu"
    """Activation of the feed-forward layers."""
    norm: Literal["layer_norm", "rms_norm"] = "rms_norm"
    """Norm of the blocks."""
    layer_norm_eps: float = Field(1e-6, gt=0)
    """Epsilon of the norms."""
    least_masked: float = Field(0.02, gt=0, lt=1)
    """Least probability with which the genes of a cell are hidden; a hidden gene counts up to its inverse."""
    least_depth: float = Field(1.0, gt=0, le=1)
    """Cells are thinned to a share of their counts before genes are hidden, this one at least; 1 leaves them whole.
    Below 1 it needs ``tokenizer.value_transform: counts``."""
    log_values: bool = False
    """Take log(1 + value) of what the tokenizer gives, as counts need."""

    @property
    def needs_counts(self) -> bool:
        """Whether values must be counts: only these can be thinned."""
        return self.least_depth < 1

    @model_validator(mode="after")
    def _counts_need_logarithms(self) -> ScDivaDiffusionConfig:
        if self.least_depth < 1 and not self.log_values:
            msg = f"least_depth {self.least_depth:g} thins counts, whose scale needs log_values: true; set both"
            raise ValueError(msg)
        return self
