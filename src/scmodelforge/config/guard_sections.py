"""Settings of what watches over training, and the checks of the sizes of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from scmodelforge._errors import ConfigError
from scmodelforge.config.section import Section

if TYPE_CHECKING:
    from scmodelforge.config.schema import TrainingConfig

__all__ = ["BatchSize", "GuardsConfig", "check_batch_size", "known_batch_size"]

#: Cells in a forward pass on one device, or ``auto``.
BatchSize = Annotated[int, Field(gt=0)] | Literal["auto"]


class GuardsConfig(Section):
    """What training does about steps that went wrong."""

    max_skipped_steps: int = Field(5, ge=0)
    """Steps in a row that may be skipped because the loss or the gradient is not finite; one more stops training. 0
    stops at the first."""
    spike_factor: float | None = Field(10.0, gt=0)
    """A loss is a spike if it is above the median of the last 100 steps by so many standard deviations (estimated by
    the median absolute deviation). It is reported and its cells are kept; ``None`` looks for none."""


def check_batch_size(training: TrainingConfig) -> None:
    """Refuse sizes of a step that contradict each other.

    Raises
    ------
    ValueError
        If they do; the message says what to change.
    """
    whole, devices = training.global_batch_size, training.devices * training.num_nodes
    if training.batch_size != "auto":
        if whole is not None:
            msg = (
                f"global_batch_size ({whole}) has no effect beside batch_size {training.batch_size}; leave it out, or "
                "set batch_size to auto"
            )
            raise ValueError(msg)
        return
    if whole is None:
        msg = (
            "batch_size 'auto' needs global_batch_size, the cells of an optimiser step over all devices, which stays "
            "as it is; add it, or give batch_size as a number"
        )
        raise ValueError(msg)
    if training.gradient_accumulation != 1:
        msg = (
            f"gradient_accumulation ({training.gradient_accumulation}) follows from batch_size 'auto' and "
            f"global_batch_size ({whole}); leave it out"
        )
        raise ValueError(msg)
    if whole % devices:
        msg = f"global_batch_size ({whole}) cannot be shared by {devices} devices; make it a multiple of {devices}"
        raise ValueError(msg)


def known_batch_size(training: TrainingConfig) -> int:
    """Return ``batch_size`` as a number.

    Raises
    ------
    ConfigError
        If it is still ``auto``, which only ``scmodelforge train`` replaces by a number.
    """
    if training.batch_size == "auto":
        msg = "training.batch_size is 'auto', which only scmodelforge train works out; give a number."
        raise ConfigError(msg)
    return training.batch_size
