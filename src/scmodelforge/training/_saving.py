"""When a run is saved, and what happens to it when that fails."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import torch

from scmodelforge._errors import DataError, Interrupted, NotSaved
from scmodelforge.training._targets import all_reduce
from scmodelforge.training.checkpoint import MEND

if TYPE_CHECKING:
    from scmodelforge.training.run import Run

__all__ = ["nothing_under_way", "save_when_due", "saved_if_data_fail", "saved_to_the_end", "stop", "told_if_data_fail"]

_log = logging.getLogger(__name__)

#: Checkpoints in a row that may fail. A full disk is often mended within hours; a run that cannot be saved is no use.
_MOST_FAILURES = 3


def save_when_due(run: Run, *, is_due: bool) -> None:
    """Begin a checkpoint if it is time for one, and take up how the one before went.

    What could not be written is a warning and ``checkpoint/failures`` in the metrics; the third in a row asks the run
    to stop.
    """
    checkpoints = run.checkpoints
    if checkpoints is None:
        return
    before = checkpoints.failures
    if is_due:
        checkpoints.save_soon(run)
    else:
        checkpoints.collect()
    if checkpoints.failures == before:
        return
    if run.metrics is not None:
        run.metrics.log(run.progress.step, {"checkpoint/failures": checkpoints.failures})
    kept = f"the last one is {checkpoints.last}" if checkpoints.last else "there is none so far"
    if checkpoints.failures_in_a_row < _MOST_FAILURES:
        ahead = f"training goes on and tries again at the next one, {_MOST_FAILURES} failures in a row end it"
    else:
        ahead, run.stop_requested = f"training stops after {_MOST_FAILURES} failures in a row", True
    _log.warning(f"{checkpoints.problem} {MEND}: {ahead}; {kept}")


def stop(run: Run) -> NoReturn:
    """End the run after a last checkpoint, unless this step has one.

    Raises
    ------
    Interrupted
        Always.
    """
    where = f"stopped after step {run.progress.step:,} of {run.total_steps:,}"
    if run.checkpoints is None:
        msg = f"{where}; nothing was saved, since the run has no folder for checkpoints"
        raise Interrupted(msg)
    _save_this_step(run, where)
    msg = f"{where}; saved as {run.checkpoints.path_of(run.progress.step)}"
    raise Interrupted(msg)


def saved_to_the_end(run: Run) -> None:
    """Wait until the last step is saved.

    Raises
    ------
    NotSaved
        If it cannot be saved.
    """
    if run.checkpoints is not None:
        _save_this_step(run, f"trained to step {run.progress.step:,} of {run.total_steps:,}")
        if run.fabric.is_global_zero:
            run.checkpoints.rank()


@contextmanager
def nothing_under_way(run: Run) -> Iterator[None]:
    """Wait on leaving until no checkpoint is being written, except at a second Ctrl-C, which stops at once."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException:
        if run.checkpoints is not None:
            run.checkpoints.wait()
        raise


@contextmanager
def saved_if_data_fail(run: Run) -> Iterator[None]:
    """Save the steps done if the body, which reads the cells of the next one, cannot.

    With several processes the others are at another place by then, so the checkpoints there are must do.
    """
    try:
        yield
    except (DataError, OSError) as problem:
        if run.checkpoints is None or run.fabric.world_size > 1 or run.progress.step == 0:
            raise
        reason = " ".join(str(problem).split())
        where = f"{reason} Training stopped after step {run.progress.step:,} of {run.total_steps:,}"
        _save_this_step(run, where)
        msg = f"{where}; saved as {run.checkpoints.last}. Mend the data, then resume."
        raise DataError(msg) from problem


@contextmanager
def told_if_data_fail(run: Run) -> Iterator[None]:
    """Say where to go on from if the body, which reads cells between two steps, cannot."""
    try:
        yield
    except (DataError, OSError) as problem:
        if run.checkpoints is None:
            raise
        run.checkpoints.wait()
        last = run.checkpoints.last
        kept = f"The last checkpoint is {last}. Mend the data, then resume" if last else "There is no checkpoint"
        reason = " ".join(str(problem).split())
        msg = f"{reason} Training stopped after step {run.progress.step:,} of {run.total_steps:,}. {kept}."
        raise DataError(msg) from problem


def _save_this_step(run: Run, where: str) -> None:
    checkpoints = run.checkpoints
    assert checkpoints is not None
    checkpoints.wait()
    this = checkpoints.path_of(run.progress.step)
    if _is_true_of_first(run, checkpoints.last != this):
        checkpoints.save_soon(run)
        checkpoints.wait()
    if _is_true_of_first(run, checkpoints.last != this):
        kept = f"The last checkpoint is {checkpoints.last}" if checkpoints.last else "There is no checkpoint"
        problem = checkpoints.problem or f"{this}: the first process could not write the checkpoint."
        msg = f"{where}, which is not saved. {problem} {MEND}, then resume. {kept}"
        raise NotSaved(msg)


def _is_true_of_first(run: Run, fact: bool) -> bool:
    """Tell all processes what holds for the one that writes; they meet here."""
    flag = torch.tensor(int(fact and run.fabric.is_global_zero), device=run.fabric.device)
    return bool(all_reduce(run.fabric, flag).item())
