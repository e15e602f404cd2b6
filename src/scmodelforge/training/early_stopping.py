"""Ends a run when a metric no longer improves (Prechelt 1998, doi:10.1007/3-540-49430-8_3)."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import EarlyStoppingConfig
from scmodelforge.training._targets import all_reduce
from scmodelforge.training.run import Run

__all__ = ["EarlyStopping", "with_early_stopping"]

_log = logging.getLogger(__name__)
_VALIDATION = "val/"


class EarlyStopping:
    """A callback that looks at a metric after each epoch in which it was measured.

    All processes come to the same end: the first one's value counts. A value that is not a number is no improvement.

    Parameters
    ----------
    config
        The metric, and what counts as an improvement.
    """

    def __init__(self, config: EarlyStoppingConfig) -> None:
        self._config = config
        self._best: float | None = None
        self._best_epoch = 0
        self._waits = 0
        self._has_stopped = False

    def on_fit_start(self, run: Run) -> None:
        """Keep a run at its end that was stopped before."""
        if self._has_stopped:
            run.ends_early = True
            _log.info(f"the run was stopped early after epoch {run.progress.epoch}; there is nothing left to train")

    def on_epoch_end(self, run: Run) -> None:
        """Count an epoch without improvement, and end the run when there were enough.

        Raises
        ------
        ConfigError
            If there is no such metric.
        """
        if not self._is_measured(run):
            return
        value, epoch = self._value(run), run.progress.epoch
        if self._is_better(value):
            self._best, self._best_epoch, self._waits = value, epoch, 0
            return
        self._waits += 1
        if self._waits >= self._config.patience and epoch < run.config.max_epochs:
            self._has_stopped = run.ends_early = True
            metric, best = self._config.metric, "never a number" if self._best is None else f"{self._best:.6g}"
            _log.info(
                f"stopped early after epoch {epoch}/{run.config.max_epochs}: {metric} is {value:.6g}, its best was "
                f"{best} after epoch {self._best_epoch} (training.early_stopping.patience {self._config.patience})"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far, and how long ago it was."""
        return {
            "best": self._best,
            "best_epoch": self._best_epoch,
            "waits": self._waits,
            "has_stopped": self._has_stopped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self._best, self._best_epoch = state["best"], state["best_epoch"]
        self._waits, self._has_stopped = state["waits"], state["has_stopped"]

    def _is_measured(self, run: Run) -> bool:
        return self._config.metric.startswith(_VALIDATION) or run.scores_step == run.progress.step

    def _value(self, run: Run) -> float:
        """Return the first process's value, on all of them."""
        metric = self._config.metric
        found = run.validation if metric.startswith(_VALIDATION) else run.scores
        own = [float(metric in found), found.get(metric, 0.0)] if run.fabric.is_global_zero else [0.0, 0.0]
        dtype = torch.float32 if run.fabric.device.type == "mps" else torch.float64  # MPS has no float64
        is_known, value = all_reduce(run.fabric, torch.tensor(own, dtype=dtype, device=run.fabric.device)).tolist()
        if not is_known:
            there = ", ".join(sorted({**run.validation, **run.scores})) or "none, since no cell has a target"
            msg = f"training.early_stopping.metric is '{metric}', which was not measured; those there are: {there}."
            raise ConfigError(msg)
        return value

    def _is_better(self, value: float) -> bool:
        if math.isnan(value):
            return False
        if self._best is None:
            return True
        gain = value - self._best if self._config.mode == "max" else self._best - value
        return gain > self._config.min_delta


def with_early_stopping(config: EarlyStoppingConfig | None, callbacks: list[Any]) -> list[Any]:
    """Return callbacks with the one that stops early, if there are settings for it, at its place.

    By a metric of the validation it comes first, so that the last epoch is known to be the last to those that evaluate;
    by that of a benchmark it comes after them.
    """
    if config is None:
        return callbacks
    stopping = [EarlyStopping(config)]
    return stopping + callbacks if config.metric.startswith(_VALIDATION) else callbacks + stopping
