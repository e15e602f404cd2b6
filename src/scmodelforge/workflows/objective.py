"""The objective a run trains on."""

from __future__ import annotations

from typing import Any

from scmodelforge._registry import MODELS, OBJECTIVES
from scmodelforge.config.schema import RunConfig
from scmodelforge.data.vocab import GeneVocab

__all__ = ["chosen_objective"]

_DEFAULT_OBJECTIVE = "masked_gene_prediction"  # of models that name none, such as the tutorial's


def chosen_objective(config: RunConfig, vocab: GeneVocab) -> tuple[str, Any]:
    """Return the name of the objective of ``model.pretraining_task``, by default the architecture's, and the objective.

    Parameters
    ----------
    config
        Settings of the run.
    vocab
        The tokens.
    """
    default = getattr(MODELS.get(config.model.architecture), "default_objective", _DEFAULT_OBJECTIVE)
    name: str = config.model.pretraining_task or default
    made: Any = OBJECTIVES.get(name)(vocab=vocab, tokenizer_config=config.tokenizer, model_config=config.model)
    return name, made
