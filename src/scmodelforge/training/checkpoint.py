"""Checkpoints: everything a run needs to go on as if it had not stopped, in files that hold no code.

========================  ==========================================================================
``model/``                the model folder, written by the caller; its ``model.safetensors`` is read
``state.safetensors``     optimiser state as ``exp_avg.<parameter>`` ..., generators as ``rng.<process>.<name>``
``state.json``            progress, schedule, place in the data, callbacks, validation, versions
``MANIFEST.json``         size and sha256 of every file, written last
========================  ==========================================================================

A checkpoint is written beside its place and renamed into it when it is on the disk. ``last`` and ``best`` are text
files with a checkpoint's name. The checkpoint before the last one is always kept, to stand in should the last be
damaged.

Training waits for a copy of the run on the host only: one thread writes it, reads the files again for their checksums
(what is hashed is what the file system gives back, not what was meant to be written) and renames the folder.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.training._background import Background
from scmodelforge.training._checkpoint_files import (
    Scores,
    by_score,
    list_checkpoints,
    remove_superseded,
    validated,
    write_checkpoint,
)
from scmodelforge.training._files import find_damage, write_text
from scmodelforge.training._host import HostCopies
from scmodelforge.training._snapshot import Snapshot, named_callbacks, take_snapshot
from scmodelforge.training._tensors import load_tensors

if TYPE_CHECKING:
    from scmodelforge.training.loop import Run

__all__ = ["MEND", "Checkpoints"]

_log = logging.getLogger(__name__)

#: What to do about a checkpoint that cannot be written.
MEND = "Make room or mend access"

_LONG_WAIT = 1.0  # seconds


class Checkpoints:
    """The checkpoints of a run.

    Parameters
    ----------
    folder
        Where they lie; made when absent.
    save_top_k
        Number kept for their score, beside the recent ones.
    save_model
        Writes a model folder with at least ``model.safetensors``, which holds the snapshot's ``weights``.
    config_hash
        Identity of the run's settings.
    scores
        What says how good checkpoints are; ``None`` is the lowest ``val/loss``.
    follows_evaluation
        Whether there is to be one at each step that was evaluated.

    Attributes
    ----------
    last
        The checkpoint written or loaded last, or ``None``.
    problem
        Why the latest one could not be written, or ``None``.
    failures, failures_in_a_row
        How many could not be written: in all, and since the last that could.
    waits
        How often a checkpoint had to wait until the one before was written.
    seconds_blocked
        How long training has waited for checkpoints.
    """

    def __init__(
        self,
        folder: Path,
        *,
        save_top_k: int,
        save_model: Callable[[Path, Snapshot], None],
        config_hash: str,
        scores: Scores | None = None,
        follows_evaluation: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self._save_top_k = save_top_k
        self._save_model = save_model
        self._config_hash = config_hash
        self._scores, self.follows_evaluation = scores or validated("val/loss"), follows_evaluation
        self._background, self._memory = Background(), HostCopies()
        self._under_way: Path | None = None
        self.last: Path | None = None
        self.problem: str | None = None
        self.failures, self.failures_in_a_row, self.waits, self.seconds_blocked = 0, 0, 0, 0.0

    def path_of(self, step: int) -> Path:
        """Return the folder of the checkpoint after a step, whether it exists or not."""
        return self.folder / f"step_{step:08d}"

    def save(self, run: Run) -> Path:
        """Write a checkpoint, then remove those no longer kept. All processes call it; the first one writes.

        Raises
        ------
        DataError
            If the files cannot be written. Earlier checkpoints are left as they were.
        """
        target = self.save_soon(run)
        self.wait()
        run.fabric.barrier()
        if self.problem is not None:
            msg = f"{self.problem} {MEND}, then resume."
            raise DataError(msg)
        return target

    def save_soon(self, run: Run) -> Path:
        """Copy the run and begin to write its checkpoint, which goes on beside the training.

        All processes call it; the first one writes. One is written at a time: this waits for the one before. What
        cannot be written is a warning, and counts in ``failures``.

        Returns
        -------
        The folder that the checkpoint will have.
        """
        began = time.perf_counter()
        self.waits += self._background.is_busy
        before = self._under_way
        self.wait()
        waited = time.perf_counter() - began
        target = self.path_of(run.progress.step)
        snapshot = take_snapshot(run, config_hash=self._config_hash, memory=self._memory)
        if snapshot is not None:
            self._under_way = target
            self._background.start(partial(self._write, snapshot, target), name=f"checkpoint {target.name}")
        self.seconds_blocked += time.perf_counter() - began
        if waited > _LONG_WAIT and before is not None:
            _log.warning(
                f"{target.name} waited {waited:.1f} s until {before.name} was written: checkpoints come faster than "
                "the disk takes them. Save less often (output.save_every_n_steps) or to a faster disk"
            )
        return target

    def collect(self) -> None:
        """Take up the outcome of a write that has ended, without waiting for one that has not."""
        if not self._background.is_busy:
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written any more."""
        problem = self._background.wait()
        target, self._under_way = self._under_way, None
        if target is None:
            return
        if problem is None:
            self.last, self.problem, self.failures_in_a_row = target, None, 0
        elif isinstance(problem, (OSError, _safetensors_error())):
            self.failures += 1
            self.failures_in_a_row += 1
            self.problem = f"{target}: the checkpoint cannot be written ({_reason(problem)})."
        else:
            raise problem

    def load(self, run: Run, path: Path, callbacks: Sequence[Any] = ()) -> None:
        """Restore a run: weights, optimiser, schedule, generators, place in the data, callbacks, progress.

        Parameters
        ----------
        run
            A run made of the same settings; changed in place. Call this last before ``fit``.
        path
            A checkpoint's folder, as from :meth:`find_last`.
        callbacks
            The callbacks that ``fit`` will be given.

        Raises
        ------
        ConfigError
            If the checkpoint belongs to other settings.
        DataError
            If its files cannot be read or do not fit the model.
        """
        try:
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            found = state["config_hash"]
            if found != self._config_hash:
                msg = (
                    f"{path} was written with other settings (hash {found[:12]}) than those of this run (hash "
                    f"{self._config_hash[:12]}). Resume with the run's own config.yaml."
                )
                raise ConfigError(msg)
            load_tensors(run, path, state)
        except (OSError, json.JSONDecodeError, KeyError, RuntimeError, _safetensors_error()) as problem:
            reason = " ".join(str(problem).split())
            msg = f"{path}: the checkpoint cannot be read into this run ({reason}). Resume from another one."
            raise DataError(msg) from problem
        self.last = path
        run.scheduler.load_state_dict(state["scheduler"])
        for group, lr in zip(run.optimizer.param_groups, run.scheduler.get_last_lr(), strict=True):
            group["lr"] = lr
        run.train_loader.load_state_dict(state["loader"])
        if "guards" in state:  # checkpoints of older versions have none
            run.guards.load_state_dict(state["guards"])
        _load_callbacks(callbacks, state["callbacks"], path)
        for name, value in state["progress"].items():
            setattr(run.progress, name, value)
        run.validation_step, run.validation = state["validation"]["step"], _as_floats(state["validation"]["metrics"])

    def best(self) -> Path | None:
        """Return the checkpoint with the best score of those there are, or ``None`` if none has one."""
        self.wait()
        scored = by_score(list_checkpoints(self.folder), self._scores)
        return scored[0] if scored else None

    def rank(self) -> None:
        """Write ``best`` anew, after a score that came later than its checkpoint; while one is written, leave it."""
        if self.follows_evaluation and not self._background.is_busy:
            scored = by_score(list_checkpoints(self.folder), self._scores)
            if scored:
                with suppress(OSError):  # what else cannot be written then tells of it
                    write_text(self.folder / "best", f"{scored[0].name}\n")

    @staticmethod
    def find_last(folder: Path) -> Path:
        """Return the last checkpoint whose files are all as they were written.

        Damaged ones are skipped with a warning that names the file.

        Raises
        ------
        DataError
            If there is none.
        """
        damaged = 0
        for path in reversed(list_checkpoints(folder)):
            damage = find_damage(path)
            if damage is None:
                return path
            damaged += 1
            _log.warning(f"{path} is damaged ({damage}); the checkpoint before it is taken")
        found = f"all {damaged} checkpoints are damaged" if damaged else "there is no checkpoint"
        msg = f"{folder}: {found}, so the run cannot be resumed. Start it again."
        raise DataError(msg)

    def _write(self, snapshot: Snapshot, target: Path) -> None:
        write_checkpoint(target, snapshot, self._save_model)
        step = snapshot.progress.step
        remove_superseded(self.folder, step, save_top_k=self._save_top_k, scores=self._scores)


def _load_callbacks(callbacks: Sequence[Any], states: dict[str, Any], path: Path) -> None:
    for name, callback in named_callbacks(callbacks):
        if name in states:
            callback.load_state_dict(states.pop(name))
    if states:
        _log.warning(f"{path} has the state of callbacks this run does not have: {', '.join(states)}")


def _as_floats(metrics: dict[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in metrics.items()}


def _reason(problem: BaseException) -> str:
    if not isinstance(problem, OSError) or problem.strerror is None:
        return " ".join(str(problem).split())
    return problem.strerror if problem.filename is None else f"{problem.strerror}: {problem.filename}"


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError
