"""Evaluation in training. It has the shape of a training callback and imports nothing of training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scmodelforge.eval.base import Record
from scmodelforge.eval.harness import MODEL, winners
from scmodelforge.eval.records import append_records, truncate_records

__all__ = ["EvalCallback"]

_log = logging.getLogger(__name__)


class EvalCallback:
    """Evaluates every n epochs and after the last one, also of a run that ends early.

    The model's values are left in ``run.scores``.

    Parameters
    ----------
    evaluate
        Gets the run and returns the records of the model and its baselines. It is called on every device and returns
        nothing on those that do not evaluate.
    every_n_epochs
        Epochs between two evaluations.
    max_epochs
        The last epoch, which is always evaluated.
    results
        The run's ``results.jsonl``. All records go there, with the step and the epoch; the model's values go to the
        run's metrics log as well.
    """

    def __init__(
        self, evaluate: Callable[[Any], list[Record]], *, every_n_epochs: int, max_epochs: int, results: Path
    ) -> None:
        self._evaluate = evaluate
        self._every_n_epochs = every_n_epochs
        self._max_epochs = max_epochs
        self._results = results

    def on_epoch_end(self, run: Any) -> None:
        """Evaluate if it is time; ``run.progress.epoch`` counts finished epochs."""
        progress = run.progress
        is_last = progress.epoch == self._max_epochs or run.ends_early
        if progress.epoch % self._every_n_epochs and not is_last:
            return
        run.scores_step = progress.step
        records = self._evaluate(run)
        if not records:
            return
        for record in records:
            record.step, record.epoch = progress.step, progress.epoch
        self.truncate(progress.step - 1)  # of an evaluation that was broken off and is done again
        append_records(self._results, records)
        values = {r.key: r.value for r in records if r.representation == MODEL and r.value is not None}
        run.metrics.log(progress.step, values)
        run.scores = values
        counts = winners(records)
        owners = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        _log.info(f"epoch {progress.epoch}/{self._max_epochs}  evaluated; metrics won by: {owners or 'none'}")

    def truncate(self, step: int) -> None:
        """Forget the results of later steps, when a run goes on from ``step``."""
        truncate_records(self._results, step)
