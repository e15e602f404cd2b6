"""Whether counts arrive at a model that reads them (``takes_counts``)."""

from __future__ import annotations

from scmodelforge._registry import MODELS
from scmodelforge.config.faults import Faults
from scmodelforge.config.parts import token_maker
from scmodelforge.config.schema import ModelConfig, TokenizerConfig

__all__ = ["check_counts_arrive"]


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
    if getattr(maker, "value_transform", None) != "counts":
        faults.add(
            f"{path}.strategy",
            f"{takes}, but tokenizer '{maker.strategy}' with these settings gives other values; set {path}.strategy to "
            f"'continuous_projection' and {path}.value_transform to 'counts'.",
        )
    elif getattr(maker, "clip", None) is not None:
        faults.add(f"{path}.clip", f"{takes} as they are, but {path}.clip is set; leave it out.")
