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
"""

from __future__ import annotations

import json
import logging
import math
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.training._files import find_damage, sync_folder, write_manifest, write_text
from scmodelforge.training._snapshot import Snapshot, named_callbacks, take_snapshot
from scmodelforge.training._tensors import load_tensors

if TYPE_CHECKING:
    from scmodelforge.training.loop import Run

__all__ = ["Checkpoints"]

_log = logging.getLogger(__name__)

_NAME = re.compile(r"step_(\d{8,})")
_WRITING = ".writing_"
_NUM_RECENT = 2


class Checkpoints:
    """The checkpoints of a run.

    Parameters
    ----------
    folder
        Where they lie; made when absent.
    save_top_k
        Number kept for the lowest ``val/loss``, beside the recent ones.
    save_model
        Writes a model folder with at least ``model.safetensors``, which holds the snapshot's ``weights``.
    config_hash
        Identity of the run's settings.
    """

    def __init__(
        self, folder: Path, *, save_top_k: int, save_model: Callable[[Path, Snapshot], None], config_hash: str
    ) -> None:
        self.folder = Path(folder)
        self._save_top_k = save_top_k
        self._save_model = save_model
        self._config_hash = config_hash

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
        target = self.path_of(run.progress.step)
        snapshot = take_snapshot(run, config_hash=self._config_hash)
        if snapshot is not None:
            try:
                self._write(snapshot, target)
                self._clean(snapshot.progress.step)
            except (OSError, _safetensors_error()) as problem:
                msg = f"{target}: the checkpoint cannot be written ({problem}). Make room or mend access, then resume."
                raise DataError(msg) from problem
        run.fabric.barrier()
        return target

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
        run.scheduler.load_state_dict(state["scheduler"])
        for group, lr in zip(run.optimizer.param_groups, run.scheduler.get_last_lr(), strict=True):
            group["lr"] = lr
        run.train_loader.load_state_dict(state["loader"])
        _load_callbacks(callbacks, state["callbacks"], path)
        for name, value in state["progress"].items():
            setattr(run.progress, name, value)
        run.validation_step, run.validation = state["validation"]["step"], _as_floats(state["validation"]["metrics"])

    def best(self) -> Path | None:
        """Return the checkpoint with the lowest ``val/loss`` of those there are, or ``None`` if none has one."""
        scored = _by_score(self.folder, _checkpoints(self.folder))
        return scored[0] if scored else None

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
        for path in reversed(_checkpoints(folder)):
            damage = find_damage(path)
            if damage is None:
                return path
            damaged += 1
            _log.warning(f"{path} is damaged ({damage}); the checkpoint before it is taken")
        found = f"all {damaged} checkpoints are damaged" if damaged else "there is no checkpoint"
        msg = f"{folder}: {found}, so the run cannot be resumed. Start it again."
        raise DataError(msg)

    def _write(self, snapshot: Snapshot, target: Path) -> None:
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()
        writing = self.folder / f"{_WRITING}{target.name}"
        try:
            writing.mkdir()
            self._save_model(writing / "model", snapshot)
            save_file(snapshot.tensors, str(writing / "state.safetensors"))
            write_text(writing / "state.json", json.dumps(snapshot.state, indent=1) + "\n")
            write_manifest(writing)
            if target.exists():  # a damaged one of the same step, left behind by a resumed run
                target.rename(self.folder / f"{_WRITING}old_{target.name}")
            writing.rename(target)
        except BaseException:
            shutil.rmtree(writing, ignore_errors=True)
            raise
        sync_folder(self.folder)
        self._remove_leftovers()

    def _clean(self, step: int) -> None:
        """Write ``last`` and ``best``, and keep the recent and the best checkpoints up to a step only.

        Later ones were damaged when the run was resumed from before them; the run has taken another way since.
        """
        existing = _checkpoints(self.folder)
        current = [path for path in existing if _step_of(path) <= step]
        write_text(self.folder / "last", f"{current[-1].name}\n")
        best = _by_score(self.folder, current)[: self._save_top_k]
        if best:
            write_text(self.folder / "best", f"{best[0].name}\n")
        kept = {*current[-_NUM_RECENT:], *best}
        for path in existing:
            if path not in kept:
                # Renamed first, so that no half-deleted folder looks like a checkpoint.
                path.rename(self.folder / f"{_WRITING}old_{path.name}")
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        for path in self.folder.glob(f"{_WRITING}*"):
            shutil.rmtree(path)


def _checkpoints(folder: Path) -> list[Path]:
    """Return the folders named as checkpoints, by step."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=_step_of)


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step_"))


def _by_score(folder: Path, paths: Iterable[Path]) -> list[Path]:
    """Return those validated at their own step, the lowest loss first; of equal ones, the earlier."""
    scored = []
    for path in paths:
        try:
            validation = json.loads((path / "state.json").read_text(encoding="utf-8"))["validation"]
        except (OSError, ValueError, KeyError):  # damaged: never the best
            continue
        loss = validation["metrics"].get("val/loss")
        if loss is not None and validation["step"] == _step_of(path):
            scored.append((loss, _step_of(path), path))
    return [path for _, _, path in sorted(scored)]


def _load_callbacks(callbacks: Sequence[Any], states: dict[str, Any], path: Path) -> None:
    for name, callback in named_callbacks(callbacks):
        if name in states:
            callback.load_state_dict(states.pop(name))
    if states:
        _log.warning(f"{path} has the state of callbacks this run does not have: {', '.join(states)}")


def _as_floats(metrics: dict[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in metrics.items()}


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError
