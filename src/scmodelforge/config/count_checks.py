"""Whether counts arrive where they are taken: at a model that reads them, or a loss that they are learned by."""

from __future__ import annotations

from scmodelforge._registry import MODELS, OBJECTIVES
from scmodelforge.config.backbone import token_reader
from scmodelforge.config.faults import Faults
from scmodelforge.config.parts import objective_of, token_maker
from scmodelforge.config.schema import DataConfig, ModelConfig, TokenizerConfig

__all__ = ["check_counts", "check_counts_arrive", "check_whole_counts"]


def check_counts_arrive(tokenizer: TokenizerConfig, model: ModelConfig, faults: Faults) -> None:
    """Refuse a tokenizer that makes something else of counts on their way to a model that reads them.

    Parameters
    ----------
    tokenizer, model
        Settings of the tokenizer and the model.
    faults
        Gets a line for each thing.
    """
    if not getattr(MODELS.get(model.architecture), "takes_counts", False):
        return
    maker, takes = token_maker(tokenizer), f"architecture '{model.architecture}' takes counts"
    path = "tokenizer" if maker is tokenizer else "tokenizer.base"
    if not _gives_counts(maker):
        faults.add(
            f"{path}.strategy",
            f"{takes}, but tokenizer '{maker.strategy}' with these settings gives other values; set {path}.strategy to "
            f"'continuous_projection' and {path}.value_transform to 'counts'.",
        )
    elif getattr(maker, "clip", None) is not None:
        faults.add(f"{path}.clip", f"{takes} as they are, but {path}.clip is set; leave it out.")


def check_counts(tokenizer: TokenizerConfig, model: ModelConfig, objective: str, faults: Faults) -> None:
    """Refuse an objective, or settings of a model, that ask for counts of a tokenizer that gives something else."""
    needs = getattr(OBJECTIVES.get(objective), "needs_counts", False) or getattr(model, "needs_counts", False)
    if needs and not _gives_counts(token_maker(tokenizer)):
        faults.add(
            "model.pretraining_task",
            f"model.pretraining_task '{objective}' asks for counts, but tokenizer '{tokenizer.strategy}' gives other "
            "values; set tokenizer.strategy to 'continuous_projection' and tokenizer.value_transform to 'counts'.",
        )


def check_whole_counts(data: DataConfig, model: ModelConfig, faults: Faults) -> None:
    """Refuse normalisation before a model or a loss that takes whole counts."""
    task = objective_of(model)
    objective = OBJECTIVES.get(task) if task in OBJECTIVES else None
    learns = getattr(objective, "needs_counts", False) or getattr(model, "value_loss", "") == "zero_truncated_poisson"
    learns = learns or getattr(model, "needs_counts", False)
    takes = getattr(MODELS.get(token_reader(model).architecture), "takes_counts", False)
    if (learns or takes) and data.preprocessing.normalize is not None:
        faults.add(
            "data.preprocessing.normalize",
            f"data.preprocessing.normalize is '{data.preprocessing.normalize}', but model.architecture "
            f"'{model.architecture}' with these settings takes whole counts; leave it out.",
        )


def _gives_counts(maker: TokenizerConfig) -> bool:
    return getattr(maker, "value_transform", None) == "counts"
