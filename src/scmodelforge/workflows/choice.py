"""What the exported checkpoint of a run was chosen by, as records and closing lines tell it."""

from __future__ import annotations

from typing import Any

from scmodelforge.config.best_metric import OWN_CELLS
from scmodelforge.config.schema import RunConfig

__all__ = ["CHOSEN_ON_SCORED", "choice_notes", "chosen_on", "looks_at"]

#: The entry of ``Record.params`` of a model whose checkpoint was chosen by the very cells that are scored.
CHOSEN_ON_SCORED = "checkpoint_chosen_on_scored_cells"


def looks_at(config: RunConfig) -> list[str]:
    """Return the metrics of the held-out cells by which a run stops or keeps its best checkpoint."""
    stopping, output = config.training.early_stopping, config.output
    asked = [output.best_metric] if output.save_top_k else []
    asked += [] if stopping is None else [stopping.metric]
    own = [name for name in asked if name.startswith("val/") or name.split("/")[2:3] == [OWN_CELLS]]
    return list(dict.fromkeys(own))


def chosen_on(config: RunConfig, dataset: str, *, has_validation: bool) -> dict[str, Any]:
    """Return what a record of a data set says of the choice of its model."""
    return {CHOSEN_ON_SCORED: True} if has_validation and dataset == OWN_CELLS and looks_at(config) else {}


def choice_notes(config: RunConfig, params: list[dict[str, Any]]) -> list[str]:
    """Return a line if the checkpoint was chosen by the cells that are scored.

    Parameters
    ----------
    config
        Settings of the run.
    params
        Of the records of its model.
    """
    metric = config.output.best_metric
    if metric.startswith("eval/"):
        return [
            f"the step was chosen by {metric}, so that score of the model is the best of several, and those of the "
            "baselines are not: score the model on other cells before you compare them"
        ]
    if config.finetune is None or not any(CHOSEN_ON_SCORED in each for each in params):
        return []
    return [
        f"the step was chosen by {' and '.join(looks_at(config))} of the same held-out cells that are scored, so the "
        "model's scores are a little too good: score it on other cells for a figure to rely on"
    ]
