"""The end of an epoch comes after its checkpoint: evaluations may take long, and a kill in one must cost no step.

What the callbacks come to is kept beside the checkpoints, in ``epoch_end.json``. A run that goes on from a checkpoint
of an epoch whose end is not there calls them again.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scmodelforge.training._files import write_text
from scmodelforge.training._snapshot import named_callbacks
from scmodelforge.training._targets import all_reduce

if TYPE_CHECKING:
    from scmodelforge.training.run import Run

__all__ = ["keep_outcome", "take_up_outcome"]

_log = logging.getLogger(__name__)

_NAME = "epoch_end.json"


def keep_outcome(run: Run) -> None:
    """Note that the callbacks of the epoch's end are through, and keep their state for a run that goes on from here."""
    run.progress.is_epoch_open = False
    if run.checkpoints is None or not run.fabric.is_global_zero:
        return
    path = run.checkpoints.folder / _NAME
    states = {name: each.state_dict() for name, each in named_callbacks(run.callbacks) if hasattr(each, "state_dict")}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"step": run.progress.step, "callbacks": states}) + "\n")
    except OSError as problem:  # a checkpoint that fails for the same reason is what there is to tell
        _log.info(f"{path} cannot be written ({problem.strerror}): a resumed run would evaluate this epoch once more")
    run.checkpoints.rank()


def take_up_outcome(run: Run) -> None:
    """Give the callbacks what they came to, if the run goes on from the end of an epoch where they had been through.

    Else the epoch stays open, and what they logged at its end before they were broken off is forgotten. All processes
    must call this.
    """
    if run.checkpoints is None:
        return
    path, step = run.checkpoints.folder / _NAME, run.progress.step
    found = _read(path)
    is_of_here = found.get("step") == step
    if run.progress.is_epoch_open:
        if _holds_everywhere(run, is_of_here):
            for name, callback in named_callbacks(run.callbacks):
                if name in found["callbacks"]:
                    callback.load_state_dict(found["callbacks"][name])
            run.progress.is_epoch_open = False
        elif run.metrics is not None and run.fabric.is_global_zero:
            run.metrics.reopen(step)
    if found and not is_of_here and run.fabric.is_global_zero:
        path.unlink(missing_ok=True)  # of steps that will be done again


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if {"step", "callbacks"} <= set(found) else {}


def _holds_everywhere(run: Run, fact: bool) -> bool:
    """Agree between processes, of which one may see a shared folder later than another."""
    flags = torch.tensor(int(fact), device=run.fabric.device)
    return int(all_reduce(run.fabric, flags).item()) == run.fabric.world_size
