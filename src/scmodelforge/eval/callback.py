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
    """Evaluates every n epochs or every n steps, and after the last one, also of a run that ends early.

    The model's values are left in ``run.scores``; a checkpoint keeps them, so that a resumed run has them.

    Parameters
    ----------
    evaluate
        Gets the run and returns the records of the model and its baselines. It is called on every device and returns
        nothing on those that do not evaluate.
    every_n_epochs
        Epochs between two evaluations; ``None`` if they go by steps.
    max_epochs
        The last epoch, which is always evaluated.
    results
        The run's ``results.jsonl``. All records go there, with the step and the epoch; the model's values go to the
        run's metrics log as well.
    every_n_steps
        Steps between two evaluations, by the run's clock; ``None`` if they go by epochs. One that falls on the end of
        an epoch takes place there, after the validation.
    """

    def __init__(
        self,
        evaluate: Callable[[Any], list[Record]],
        *,
        every_n_epochs: int | None,
        max_epochs: int,
        results: Path,
        every_n_steps: int | None = None,
    ) -> None:
        self._evaluate = evaluate
        self._every_n_epochs, self._every_n_steps = every_n_epochs, every_n_steps
        self._max_epochs = max_epochs
        self._results = results
        self._scores: dict[str, float] = {}
        self._scores_step: int | None = None

    def on_fit_start(self, run: Any) -> None:
        """Give a resumed run the scores it had."""
        if self._scores_step is not None:
            run.scores, run.scores_step = dict(self._scores), self._scores_step

    def on_step_end(self, run: Any) -> None:
        """Evaluate if it is time by the number of steps, and no epoch ends with this one."""
        step = run.progress.step
        if self._every_n_steps and step % self._every_n_steps == 0 and step % run.steps_per_epoch:
            self._evaluate_and_keep(run)

    def on_epoch_end(self, run: Any) -> None:
        """Evaluate if it is time; ``run.progress.epoch`` counts finished epochs."""
        progress = run.progress
        is_last = progress.epoch == self._max_epochs or run.ends_early
        if self._every_n_steps:
            is_due = progress.step % self._every_n_steps == 0
        else:
            is_due = progress.epoch % (self._every_n_epochs or 1) == 0
        if is_due or is_last:
            self._evaluate_and_keep(run)

    def state_dict(self) -> dict[str, Any]:
        """Return the latest scores and their step."""
        return {"scores": self._scores, "step": self._scores_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self._scores, self._scores_step = state["scores"], state["step"]

    def truncate(self, step: int) -> None:
        """Forget the results of later steps, when a run goes on from ``step``."""
        truncate_records(self._results, step)

    def _evaluate_and_keep(self, run: Any) -> None:
        progress = run.progress
        run.scores_step = self._scores_step = progress.step
        records = self._evaluate(run)
        if not records:
            return
        for record in records:
            record.step, record.epoch = progress.step, progress.epoch
        self.truncate(progress.step - 1)  # of an evaluation that was broken off and is done again
        append_records(self._results, records)
        values = {r.key: r.value for r in records if r.representation == MODEL and r.value is not None}
        run.metrics.log(progress.step, values)
        run.scores = self._scores = values
        counts = winners(records)
        owners = ", ".join(f"{name} in {count}" for name, count in counts.most_common())
        where = f"epoch {progress.epoch}/{self._max_epochs}" if self._every_n_epochs else f"step {progress.step:,}"
        _log.info(f"{where}  evaluated; best or not told apart from the best: {owners or 'none'}")
