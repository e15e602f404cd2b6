"""The objective a run trains on."""

from __future__ import annotations

from typing import Any

from scmodelforge._registry import OBJECTIVES
from scmodelforge.config.cell_labels import counted_terms
from scmodelforge.config.parts import objective_of
from scmodelforge.config.schema import RunConfig
from scmodelforge.objectives.counted import Counted
from scmodelforge.workflows.prepare import PreparedData

__all__ = ["chosen_objective"]


def chosen_objective(config: RunConfig, data: PreparedData) -> tuple[str, Any]:
    """Return the name of the objective of ``model.pretraining_task``, by default the architecture's, and the objective.

    Parameters
    ----------
    config
        Settings of the run.
    data
        What was made of them: the tokens, and labels of cells that the model learns from.
    """
    name = objective_of(config.model)
    made: Any = OBJECTIVES.get(name)(vocab=data.vocab, tokenizer_config=config.tokenizer, model_config=config.model)
    if data.task is not None:
        made = data.task.objective(made, config, data)
    terms = counted_terms(config.model)
    if not terms:
        return name, made
    return name, Counted(made, terms, {key: labels.codes for key, labels in data.labels.items()})
