"""The learning rate over the steps of a run: pure functions of the step, so that a resumed run needs nothing more."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.optim.lr_scheduler import LambdaLR

from scmodelforge.config.schema import SchedulerConfig

__all__ = ["SCHEDULES", "Span", "base_lr", "build_scheduler"]


@dataclass(frozen=True)
class Span:
    """How long a run is, in optimiser steps.

    Attributes
    ----------
    total
        Of the whole run.
    warmup
        Of the linear rise.
    epoch
        Of an epoch.
    """

    total: int
    warmup: int
    epoch: int

    def share_after(self, start: int, step: int) -> float:
        """Return how much of the way from a step to the last one is done, 0 to 1."""
        return min(1.0, max(0, step - start) / max(1, self.total - 1 - start))


#: A schedule gives the learning rate over its peak after the warm-up, from the step and the settings.
Schedule = Callable[[int, Span, SchedulerConfig], float]


def build_scheduler(
    optimizer: torch.optim.Optimizer, config: SchedulerConfig, total_steps: int, *, steps_per_epoch: int | None = None
) -> LambdaLR:
    """Return the learning rate schedule of the settings, to be stepped once after each optimiser step.

    The learning rate is a pure function of the step. With w warm-up steps it is the peak times (step + 1) / (w + 1)
    for step < w. Then, with r for ``min_lr_ratio``:

    - ``constant``: 1.
    - ``cosine_warmup``: half a cosine from 1 at step w to r at the last step (Loshchilov & Hutter 2017,
      arXiv:1608.03983, without restarts).
    - ``linear``: a line from 1 at step w to r at the last step.
    - ``wsd``: 1, and in the last ``decay_fraction`` of all steps a fall to r at the last step (Hu et al. 2024,
      arXiv:2404.06395), as a line or as 1 - sqrt of the way done (Hägele et al. 2024, arXiv:2405.18392).
    - ``epoch_decay``: ``decay_factor`` to the number of epochs done, at least r.

    Parameters
    ----------
    optimizer
        Its learning rates are the peaks; each is multiplied by the same factor.
    config
        The schedule and its settings.
    total_steps
        Optimiser steps of the whole run.
    steps_per_epoch
        Optimiser steps of an epoch; ``None`` counts the whole run as one.
    """
    warmup = config.warmup_steps
    if config.warmup_fraction is not None:
        warmup = round(config.warmup_fraction * total_steps)
    span = Span(total_steps, warmup, steps_per_epoch or total_steps)
    schedule = SCHEDULES[config.name]
    return LambdaLR(optimizer, lambda step: _risen(step, span) * schedule(step, span, config))


def base_lr(scheduler: LambdaLR, peak: float) -> float:
    """Return the learning rate of parameters without a rate of their own, for the step that is next.

    Parameters
    ----------
    scheduler
        As :func:`build_scheduler` gives it.
    peak
        ``training.optimizer.lr``.
    """
    factor: float = scheduler.lr_lambdas[0](scheduler.last_epoch)
    return peak * factor


def _risen(step: int, span: Span) -> float:
    return min(1.0, (step + 1) / (span.warmup + 1))


def _constant(step: int, span: Span, config: SchedulerConfig) -> float:
    return 1.0


def _cosine_warmup(step: int, span: Span, config: SchedulerConfig) -> float:
    share = span.share_after(span.warmup, step)
    return _between(config.min_lr_ratio, (1 + math.cos(math.pi * share)) / 2)


def _linear(step: int, span: Span, config: SchedulerConfig) -> float:
    return _between(config.min_lr_ratio, 1 - span.share_after(span.warmup, step))


def _wsd(step: int, span: Span, config: SchedulerConfig) -> float:
    length = max(1, round(config.decay_fraction * span.total))  # however short, a run ends at the lowest rate
    share = span.share_after(max(span.warmup, span.total - 1 - length), step)
    return _between(config.min_lr_ratio, 1 - (math.sqrt(share) if config.decay_shape == "1-sqrt" else share))


def _epoch_decay(step: int, span: Span, config: SchedulerConfig) -> float:
    return max(config.min_lr_ratio, config.decay_factor ** (step // span.epoch))


def _between(lowest: float, height: float) -> float:
    return lowest + (1 - lowest) * height


SCHEDULES: dict[str, Schedule] = {
    "constant": _constant,
    "cosine_warmup": _cosine_warmup,
    "epoch_decay": _epoch_decay,
    "linear": _linear,
    "wsd": _wsd,
}
