"""What of a run's training follows from what is adapted: the learning rate if none is given, and what is not read."""

from __future__ import annotations

import logging
from typing import Any

from scmodelforge.config.schema import RunConfig
from scmodelforge.finetuning.base import HeadTask, Task

__all__ = ["RATES", "fit_to_adaptation"]

_log = logging.getLogger(__name__)

#: Peak learning rate of each ``finetune.adaptation``. Weights that are trained already take small steps; a new head on
#: standardised embeddings takes large ones, and adapters, which begin at zero, are between.
RATES = {"full": 3e-4, "last_n": 3e-4, "gradual": 3e-4, "frozen": 3e-3, "lora": 1e-3, "dora": 1e-3}


def fit_to_adaptation(raw: dict[str, Any], config: RunConfig, task: Task) -> None:
    """Put the learning rate of an adaptation into plain settings where none was given, and take out what it silences.

    Parameters
    ----------
    raw
        All settings as plain values, changed in place.
    config
        Settings as they were read, which tell what was given.
    task
        The task; of one without a head of its own nothing is changed.
    """
    if not isinstance(task, HeadTask):
        return
    adaptation, given = task.config.adaptation, config.training.optimizer
    optimizer = raw["training"]["optimizer"]
    if "lr" not in given.model_fields_set:
        optimizer["lr"] = RATES[adaptation]
        _log.info(f"training.optimizer.lr is {RATES[adaptation]:g}, that of adaptation '{adaptation}'")
    if adaptation == "frozen" and given.layer_decay is not None:
        optimizer["layer_decay"] = None
        _log.info("training.optimizer.layer_decay is not read: adaptation 'frozen' trains the head alone")
