"""What watches over training: steps that are not finite are not taken, and leaps of the loss are noticed.

All decisions follow from figures that are summed over the processes, so all processes take the same. The state is in
the checkpoints: a resumed run skips, counts and warns as the unbroken one.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from scmodelforge._errors import RunError
from scmodelforge.config.guard_sections import GuardsConfig
from scmodelforge.training.batch_records import BatchRecords

if TYPE_CHECKING:
    from scmodelforge.training.run import Run

__all__ = ["Guards", "SpikeDetector"]

_log = logging.getLogger(__name__)

#: Losses that a new one is compared with, and how many there must be at least.
_WINDOW, _LEAST = 100, 20
#: Standard deviations of a normal distribution in one median absolute deviation.
_DEVIATIONS = 1.4826
#: Least standard deviation, as a share of the median: a loss that hardly moves has no spikes.
_LEAST_DEVIATION = 1e-3


class SpikeDetector:
    """Tells when a loss leaps above those before it.

    Parameters
    ----------
    factor
        Standard deviations above the running median that make a spike; ``None`` finds none.

    Attributes
    ----------
    spikes
        Spikes so far. One that lasts for several steps counts once.
    """

    def __init__(self, factor: float | None) -> None:
        self.spikes = 0
        self._factor = factor
        self._is_high = False
        self._losses: deque[float] = deque(maxlen=_WINDOW)

    def see(self, loss: float) -> tuple[float, float] | None:
        """Take the loss of a step.

        Returns
        -------
        The median of the losses before and how many standard deviations this one is above it, if a spike begins
        here.
        """
        if self._factor is None:
            return None
        before = list(self._losses)
        self._losses.append(loss)
        if len(before) < _LEAST:
            return None
        middle = median(before)
        deviation = _DEVIATIONS * median(abs(each - middle) for each in before)
        excess = (loss - middle) / max(deviation, _LEAST_DEVIATION * abs(middle), 1e-12)
        was_high, self._is_high = self._is_high, excess > self._factor
        if was_high or not self._is_high:
            return None
        self.spikes += 1
        return middle, excess

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as JSON values."""
        return {"spikes": self.spikes, "is_high": self._is_high, "losses": list(self._losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.spikes, self._is_high = state["spikes"], state["is_high"]
        self._losses = deque(state["losses"], maxlen=_WINDOW)


class Guards:
    """What decides whether the optimiser may take a step.

    Parameters
    ----------
    config
        Limits.

    Attributes
    ----------
    skipped, skipped_in_a_row
        Steps that were not taken, since the beginning and since the last one that was.
    records
        Where the cells of bad batches are written; ``None`` writes none.
    batch
        Micro-batches of the step under way, ``None`` between steps.
    """

    def __init__(self, config: GuardsConfig) -> None:
        self.skipped = self.skipped_in_a_row = 0
        self.records: BatchRecords | None = None
        self.batch: Sequence[dict[str, Any]] | None = None
        self._config = config
        self._spikes = SpikeDetector(config.spike_factor)
        self._statistics: list[torch.Tensor] | None = None
        self._kept: list[torch.Tensor] = []

    def begin(self, run: Run, micro_batches: Sequence[dict[str, Any]]) -> None:
        """Note the batch of a step, and what the forward pass changes beside the gradients."""
        self.batch = micro_batches
        if self._statistics is None:
            self._statistics = list(_running_statistics(run.model))
        self._kept = [tensor.clone() for tensor in self._statistics]

    def admit(self, run: Run, metrics: dict[str, float]) -> bool:
        """Tell whether the optimiser may take the step, once its gradients are there. All processes must call this.

        Parameters
        ----------
        run
            The run; of a step that may not be taken the gradients are dropped, and running statistics put back.
        metrics
            The step's; gets ``train/skipped_steps`` and ``train/loss_spikes``, both counted from the beginning.

        Raises
        ------
        RunError
            If too many steps in a row were not finite.
        """
        wrong = next((n for n in ("train/loss", "train/grad_norm") if not math.isfinite(metrics[n])), None)
        if wrong is None:
            self.skipped_in_a_row = 0
            self._watch(run, metrics)
        else:
            self._skip(run, metrics, wrong)
        metrics |= {"train/skipped_steps": self.skipped, "train/loss_spikes": self._spikes.spikes}
        self.batch, self._kept = None, []
        return wrong is None

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as JSON values."""
        return {
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "loss": self._spikes.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.skipped, self.skipped_in_a_row = state["skipped"], state["skipped_in_a_row"]
        self._spikes.load_state_dict(state["loss"])

    def _skip(self, run: Run, metrics: dict[str, float], wrong: str) -> None:
        run.optimizer.zero_grad(set_to_none=True)
        for tensor, before in zip(self._statistics or (), self._kept, strict=True):
            tensor.copy_(before)
        step, limit = run.progress.step + 1, self._config.max_skipped_steps
        seen = f"{wrong} is {metrics[wrong]} at step {step:,}"
        if self.skipped_in_a_row >= limit:
            cells = self._write(run, "bad_batch", metrics, at_most=math.inf)
            others = f" after {limit} skipped in a row" if limit else ""
            msg = (
                f"{seen}; the step was not taken and training stops{others}{cells}. Start a new run with a lower "
                "training.optimizer.lr, a longer warm-up or precision 32-true, or go on with more "
                "training.guards.max_skipped_steps"
            )
            raise RunError(msg)
        cells = self._write(run, "bad_batch", metrics)
        self.skipped += 1
        self.skipped_in_a_row += 1
        if run.fabric.is_global_zero:
            _log.warning(f"{seen}; the step is skipped ({self.skipped_in_a_row} in a row of at most {limit}){cells}")

    def _watch(self, run: Run, metrics: dict[str, float]) -> None:
        loss = metrics["train/loss"]
        found = self._spikes.see(loss)
        if found is None:
            return
        cells = self._write(run, "loss_spike", metrics)
        if run.fabric.is_global_zero:
            _log.warning(
                f"train/loss leaps to {loss:.4g} at step {run.progress.step + 1:,}, {found[1]:.1f} standard deviations "
                f"above {found[0]:.4g}, the median before; the step is taken{cells}"
            )

    def _write(self, run: Run, kind: str, metrics: dict[str, float], **options: float) -> str:
        """Keep the cells of the batch, and return words on where they are."""
        if self.records is None or self.batch is None:
            return ""
        path = self.records.write(run, kind, self.batch, metrics, **options)
        return "" if path is None else f"; its cells are in {path}"


def _running_statistics(model: nn.Module) -> Iterable[torch.Tensor]:
    """Return what batch norms keep of the batches they saw: one that is not finite would spoil it for good."""
    for module in model.modules():
        if isinstance(module, _NormBase):
            yield from module.buffers(recurse=False)
