"""What the training loop works on, and what it expects of loaders and callbacks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from scmodelforge.config.schema import TrainingConfig
from scmodelforge.training.guards import Guards
from scmodelforge.training.metrics import MetricsLog
from scmodelforge.training.progress import Reporter

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from scmodelforge.training.checkpoint import Checkpoints
    from scmodelforge.training.ema import Ema

__all__ = ["Callback", "Loader", "Progress", "Run"]


@dataclass
class Progress:
    """How far training is: what a checkpoint restores first.

    Attributes
    ----------
    step
        Optimiser steps done.
    epoch
        Epochs done.
    cells
        Cells seen, over all processes and passes.
    is_epoch_open
        Whether the callbacks of the last epoch's end are still to come.
    """

    step: int = 0
    epoch: int = 0
    cells: int = 0
    is_epoch_open: bool = False


class Loader(Protocol):
    """What the loop needs of a loader, such as :class:`scmodelforge.data.loader.CellLoader`."""

    steps_per_pass: int
    wait_seconds: float

    def __iter__(self) -> Iterator[list[Any]]:
        """Yield the micro-batches of each optimiser step, without end; each has ``num_targets``."""
        ...

    def one_pass(self) -> Iterator[list[Any]]:
        """Yield every cell once; equally many steps on all processes."""
        ...

    def mark_consumed(self) -> None:
        """Move the state one step on."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the place of the next step as JSON values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to the place of a state."""
        ...

    def close(self) -> None:
        """End all iterations under way."""
        ...


class Callback(Protocol):
    """What may take part in a run. All methods are optional.

    They run on every process. Random numbers they draw do not change training: the generators are put back.
    """

    def on_fit_start(self, run: Run) -> None:
        """Run before the first step, also of a resumed run."""

    def on_step_end(self, run: Run) -> None:
        """Run after each optimiser step."""

    def on_epoch_end(self, run: Run) -> None:
        """Run after each epoch, its validation and its checkpoint. ``run.progress.epoch`` counts it.

        If the run is broken off in here, one that goes on from the checkpoint calls all callbacks again, in the state
        from before; what was logged beside the loop's own records is dropped.
        """

    def on_fit_end(self, run: Run) -> None:
        """Run after the last step, not after an interruption."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as JSON values; asked for after ``on_epoch_end`` too."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""


@dataclass
class Run:
    """What the loop works on.

    Attributes
    ----------
    fabric
        A launched Fabric.
    objective, optimizer
        An :class:`~scmodelforge.training.objective.Objective` and its optimiser, both set up by the Fabric.
    scheduler
        Learning rate schedule over all steps.
    train_loader, val_loader
        This process's cells.
    config
        Settings of the loop.
    save_every_n_steps
        Steps between checkpoints, beside those at the ends of epochs.
    metrics
        Where metrics are written, by the first process.
    checkpoints
        Where the state is saved.
    reporter
        What shows the progress; by default lines to the package's logger.
    progress
        How far the run is.
    validation, validation_step
        The latest validation metrics and their step.
    ema
        Averages of the weights, if they are to be used in place of the weights.
    scores, scores_step
        The latest values of benchmarks and their step, on the process that evaluated.
    ends_early
        Set it, in a callback at the end of an epoch, to make that epoch the last: the run ends normally.
    callbacks
        Those of the :func:`~scmodelforge.training.loop.fit` under way.
    stop_requested
        Set it, in a callback or a signal handler, to save and stop at the end of the step.
    guards
        What decides whether a step is taken.
    """

    fabric: Fabric
    objective: Any
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LambdaLR
    train_loader: Loader
    config: TrainingConfig
    val_loader: Loader | None = None
    save_every_n_steps: int | None = None
    metrics: MetricsLog | None = None
    checkpoints: Checkpoints | None = None
    reporter: Reporter | None = None
    progress: Progress = field(default_factory=Progress)
    validation: dict[str, float] = field(default_factory=dict)
    validation_step: int | None = None
    ema: Ema | None = None
    scores: dict[str, float] = field(default_factory=dict)
    scores_step: int | None = None
    ends_early: bool = False
    callbacks: tuple[Any, ...] = ()
    stop_requested: bool = False
    guards: Guards = field(init=False)

    def __post_init__(self) -> None:
        self.guards = Guards(self.config.guards)

    @property
    def model(self) -> nn.Module:
        """The bare model."""
        return self.objective.module.model

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""
        return self.config.steps_per_epoch or self.train_loader.steps_per_pass

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.config.max_epochs * self.steps_per_epoch
