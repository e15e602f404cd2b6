"""The model that a run leaves: a copy of that of its best checkpoint."""

from __future__ import annotations

import logging
import shutil

from scmodelforge.training.checkpoint import Checkpoints
from scmodelforge.workflows.best_checkpoint import why_best
from scmodelforge.workflows.runfolder import RunFolder

__all__ = ["export_best"]

_log = logging.getLogger(__name__)


def export_best(folder: RunFolder, checkpoints: Checkpoints, *, metric: str | None) -> str:
    """Copy the model of the best checkpoint by a metric, or the last, to where the run's model belongs.

    Returns
    -------
    In words, which it is.
    """
    by_metric = checkpoints.best() if metric else None
    why = why_best(metric) if metric and by_metric else "the last step"
    best = by_metric or Checkpoints.find_last(folder.checkpoints)
    if metric and not metric.startswith("val/") and not by_metric:
        _log.warning(f"no checkpoint that is kept has a value of {metric}: the model of the last step is exported")
    temporary = folder.model.with_name("model.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(best / "model", temporary)
    # In its place before it is evaluated: whatever goes wrong then, the model is there.
    shutil.rmtree(folder.model, ignore_errors=True)
    temporary.replace(folder.model)
    return why
