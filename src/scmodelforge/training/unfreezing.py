"""Gradual unfreezing: which parameters are trained from which epoch on (Howard & Ruder 2018, arXiv:1801.06146)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import nn

from scmodelforge.config.schema import UnfreezeConfig
from scmodelforge.training.optim import require_match
from scmodelforge.training.run import Run

__all__ = ["Unfreezing", "check_stages"]

_log = logging.getLogger(__name__)


class Unfreezing:
    """A callback that freezes what is not to be trained yet.

    A frozen parameter has no gradient, so the optimiser leaves it alone: no step, no decay, no moments. A part of the
    model that has parameters, none of which is trained, is in evaluation mode: dropout is for weights that learn, and
    in others it would only be noise, and statistics of batches would go on changing them. What is frozen
    follows from the epoch alone, so that a resumed run needs nothing more. Parameters that the model itself has frozen
    stay frozen.

    Parameters
    ----------
    stages
        Parameters by the epoch from which on they are trained, in the order of the epochs.
    """

    def __init__(self, stages: Sequence[UnfreezeConfig]) -> None:
        self._stages = stages
        self._trainable: set[str] | None = None

    def on_fit_start(self, run: Run) -> None:
        """Freeze what the epoch under way does not train."""
        if self._trainable is None:
            self._trainable = {name for name, p in run.model.named_parameters() if p.requires_grad}
        self._apply(run)

    def on_epoch_end(self, run: Run) -> None:
        """Unfreeze what the next epoch trains."""
        if run.progress.epoch in {stage.epoch for stage in self._stages}:
            self._apply(run)

    def _apply(self, run: Run) -> None:
        assert self._trainable is not None
        trained = _trained(run.model, self._stages, run.progress.epoch) & self._trainable
        for name, parameter in run.model.named_parameters():
            parameter.requires_grad_(name in trained)
        _rest(run.model)
        sizes = {name: parameter.numel() for name, parameter in run.model.named_parameters()}
        _log.info(
            f"epoch {run.progress.epoch + 1}/{run.config.max_epochs}  training "
            f"{sum(sizes[name] for name in trained):,} of {sum(sizes.values()):,} parameters"
        )


def _rest(model: nn.Module) -> None:
    """Put the parts of a model that are frozen into evaluation mode, and all others into training mode."""
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def check_stages(model: nn.Module, stages: Sequence[UnfreezeConfig]) -> None:
    """Refuse patterns that fit no parameter of a model, and a first epoch in which nothing can be trained.

    Raises
    ------
    ConfigError
        If there is one.
    """
    if stages:
        _trained(model, stages, stages[-1].epoch)


def _trained(model: nn.Module, stages: Sequence[UnfreezeConfig], epoch: int) -> set[str]:
    return {
        name
        for number, stage in enumerate(stages)
        if stage.epoch <= epoch
        for pattern in stage.parameters
        for name in require_match(model, pattern, setting=f"training.unfreeze[{number}].parameters")
    }
