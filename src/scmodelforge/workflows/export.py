"""The model that a run leaves: a copy of that of its best checkpoint."""

from __future__ import annotations

import shutil

from scmodelforge.training.checkpoint import Checkpoints
from scmodelforge.workflows.runfolder import RunFolder

__all__ = ["export_best"]


def export_best(folder: RunFolder, checkpoints: Checkpoints, *, by_score: bool) -> str:
    """Copy the model of the best checkpoint, or the last, to where the run's model belongs; return which it is."""
    best = checkpoints.best() if by_score else None
    why = "the lowest validation loss of the checkpoints kept" if best else "the last step"
    best = best or Checkpoints.find_last(folder.checkpoints)
    temporary = folder.model.with_name("model.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(best / "model", temporary)
    # In its place before it is evaluated: whatever goes wrong then, the model is there.
    shutil.rmtree(folder.model, ignore_errors=True)
    temporary.replace(folder.model)
    return why
