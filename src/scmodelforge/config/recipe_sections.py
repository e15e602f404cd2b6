"""Settings of how a model is optimised: optimiser, learning rate, averaged weights, freezing, stopping early."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scmodelforge.config.section import Section

__all__ = [
    "EarlyStoppingConfig",
    "EmaConfig",
    "OptimizerConfig",
    "ParameterGroupConfig",
    "SchedulerConfig",
    "UnfreezeConfig",
]


class ParameterGroupConfig(Section):
    """Parameters with a learning rate or a decay of their own."""

    parameters: str = Field(min_length=1)
    """Pattern of their names in the model, such as ``head*`` or ``encoder.layers.[01].*``."""
    lr: float | None = Field(None, gt=0)
    """Their peak learning rate; ``None`` is that of the optimiser."""
    weight_decay: float | None = Field(None, ge=0)
    """Decay of the matrices among them; ``None`` is that of the optimiser."""

    @model_validator(mode="after")
    def _says_something(self) -> ParameterGroupConfig:
        if self.lr is None and self.weight_decay is None:
            msg = f"the group of '{self.parameters}' has neither lr nor weight_decay; give it one of them"
            raise ValueError(msg)
        return self


class OptimizerConfig(Section):
    """The optimiser."""

    name: Literal["adamw"] = "adamw"
    lr: float = Field(1e-4, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(0.01, ge=0)
    """Decay of matrices; norms, biases and embeddings have none."""
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    layer_decay: float | None = Field(None, gt=0, le=1)
    """Learning rate of a block over that of the next one up; heads have the full rate, embeddings the lowest."""
    groups: list[ParameterGroupConfig] = Field(default_factory=list)
    """Parameters with rates of their own; the first pattern that fits a name counts, before ``layer_decay``."""


class SchedulerConfig(Section):
    """The learning rate over the steps of a run."""

    name: Literal["cosine_warmup", "linear", "wsd", "epoch_decay", "constant"] = "cosine_warmup"
    """What follows a linear rise: ``cosine_warmup`` falls by a half cosine and ``linear`` in a line, both to
    ``min_lr_ratio`` at the last step; ``wsd`` stays at the peak and falls in the last part of the run;
    ``epoch_decay`` falls by a factor after each epoch; ``constant`` stays."""
    warmup_steps: int = Field(0, ge=0)
    """Steps of the linear rise."""
    warmup_fraction: float | None = Field(None, ge=0, lt=1)
    """Share of all steps that the linear rise takes, instead of ``warmup_steps``."""
    min_lr_ratio: float = Field(0.0, ge=0, le=1)
    """Last learning rate over the peak; the lowest one, of ``epoch_decay``."""
    decay_fraction: float = Field(0.1, gt=0, le=1)
    """Share of all steps in which ``wsd`` falls."""
    decay_shape: Literal["1-sqrt", "linear"] = "1-sqrt"
    """How ``wsd`` falls."""
    decay_factor: float = Field(0.9, gt=0, le=1)
    """Learning rate of an epoch over that of the one before, of ``epoch_decay``."""

    @model_validator(mode="after")
    def _has_one_warmup(self) -> SchedulerConfig:
        if self.warmup_steps and self.warmup_fraction is not None:
            msg = (
                f"warmup_steps ({self.warmup_steps}) and warmup_fraction ({self.warmup_fraction:g}) both say how long "
                "the warm-up is; keep one of them"
            )
            raise ValueError(msg)
        return self


class EmaConfig(Section):
    """Exponential moving average of the weights."""

    decay: float = Field(0.999, gt=0, lt=1)
    """Share of the average that each step keeps; less in the first steps, for which the average is too young."""
    start_step: int = Field(0, ge=0)
    """Steps that are left out at the beginning of the run."""


class EarlyStoppingConfig(Section):
    """When a run ends before its last epoch."""

    metric: str = "val/loss"
    """A metric of the validation (``val/...``), or of a benchmark (``eval/...``)."""
    mode: Literal["min", "max"] | None = None
    """Whether lower or higher is better. ``None`` is ``min``, for metrics of the validation; others need it."""
    patience: int = Field(3, gt=0)
    """Epochs in a row without improvement after which the run ends (evaluations in a row, for a benchmark)."""
    min_delta: float = Field(0.0, ge=0)
    """Least change that counts as an improvement."""


class UnfreezeConfig(Section):
    """Parameters that are trained from some epoch on."""

    epoch: int = Field(ge=0)
    """Epochs done when their training begins."""
    parameters: list[str] = Field(min_length=1)
    """Patterns of their names in the model, such as ``head*`` or ``encoder.layers.3.*``."""
