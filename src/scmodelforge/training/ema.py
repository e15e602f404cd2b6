"""An exponential moving average of the weights, which is what is validated, evaluated and kept as the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from scmodelforge.config.schema import EmaConfig

if TYPE_CHECKING:
    from scmodelforge.training.run import Run

__all__ = ["Ema", "averaged"]


class Ema:
    """Averages of a model's parameters, in float32 at least.

    After the step that is the n-th to be averaged, the average is d times itself and 1 - d times the weights, where d
    is the smaller of ``decay`` and (1 + n) / (10 + n), so that a young average does not hang on to its first weights
    (Abadi et al. 2016, TensorFlow's ``ExponentialMovingAverage``). The first is the weights themselves. Buffers are
    not averaged; those of the model are used.

    Parameters
    ----------
    config
        Decay, and when to begin.
    """

    def __init__(self, config: EmaConfig) -> None:
        self._config = config
        self._steps = 0
        self._averages: list[torch.Tensor] = []
        self._raw: list[torch.Tensor] = []

    @property
    def has_begun(self) -> bool:
        """Whether there are averages; before, the weights themselves are used."""
        return bool(self._averages)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the weights after an optimiser step into the average."""
        self._steps += 1
        number = self._steps - self._config.start_step
        if number < 1:
            return
        weights = [_widened(parameter) for parameter in model.parameters()]
        if not self.has_begun:
            self._averages = [weight.clone() for weight in weights]
            return
        decay = min(self._config.decay, (1 + number) / (10 + number))
        average: Any = get_ema_multi_avg_fn(decay)
        average(self._averages, weights, None)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Run the body with the averages in the model's place, and put the weights back exactly.

        Values are copied, not exchanged: what holds on to a parameter's memory (a process group, a sharded parameter,
        a compiled model) goes on. Within another such body nothing is done.
        """
        if not self.has_begun or self._raw:
            yield
            return
        self._raw = [parameter.detach().clone() for parameter in model.parameters()]
        try:
            _fill(model, self._averages)
            yield
        finally:
            _fill(model, self._raw)
            self._raw = []

    def adopt(self, model: nn.Module, state: dict[str, Any]) -> None:
        """Take the model's weights as the averages, as a checkpoint has them.

        Parameters
        ----------
        model
            The model, with the checkpoint's weights to be used.
        state
            What :meth:`state_dict` gave.
        """
        self._steps = state["steps"]
        is_begun = self._steps > self._config.start_step
        self._averages = [_widened(parameter).clone() for parameter in model.parameters()] if is_begun else []

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps beside the averages."""
        return {"steps": self._steps}


def averaged(run: Run) -> Any:
    """Return a context in which the run's model has the weights to be used: the averaged ones, if there are any."""
    return nullcontext() if run.ema is None else run.ema.applied(run.model)


def _widened(parameter: nn.Parameter) -> torch.Tensor:
    weight = parameter.detach()
    return weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight


@torch.no_grad()
def _fill(model: nn.Module, values: list[torch.Tensor]) -> None:
    for parameter, value in zip(model.parameters(), values, strict=True):
        parameter.copy_(value)
