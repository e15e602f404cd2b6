"""Settings of tokenizers that are right by themselves and wrong together with a model or an objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scmodelforge._registry import MODELS, OBJECTIVES
from scmodelforge.config.faults import Faults
from scmodelforge.config.parts import token_maker
from scmodelforge.config.schema import ModelConfig, Section, TokenizerConfig

__all__ = ["agree_on_mask_value", "check_masking", "check_value_use", "unread_masking"]


def check_value_use(tokenizer: TokenizerConfig, model: ModelConfig, faults: Faults) -> None:
    """Refuse values used in a way that the model has no place for, a loss of counts for others, two mask values."""
    _check_value_loss(tokenizer, model, faults)
    _check_mask_value(tokenizer, model, faults)
    use = getattr(token_maker(tokenizer), "embedding", None)
    own = getattr(MODELS.get(model.architecture), "only_value_use", None)
    path = "tokenizer.embedding" if token_maker(tokenizer) is tokenizer else "tokenizer.base.embedding"
    if use is not None and own not in (None, use):
        faults.add(
            path,
            f"{path} is '{use}', but architecture '{model.architecture}' reads values in one way only; set it to "
            f"'{own}'.",
        )
    if use not in ("auto_bins", "attention_bias"):
        return
    if use == "attention_bias" and not getattr(MODELS.get(model.architecture), "takes_attention_bias", False):
        faults.add(
            path,
            f"{path} is 'attention_bias', but architecture '{model.architecture}' has no attention that takes a bias; "
            f"choose another {path} or model.architecture.",
        )
    elif not model.use_expression_values:
        faults.add(
            path,
            f"{path} is '{use}', but model.use_expression_values is false, so no value is read; set it to true or "
            f"{path} to 'linear'.",
        )


def _check_value_loss(tokenizer: TokenizerConfig, model: ModelConfig, faults: Faults) -> None:
    loss = getattr(model, "value_loss", "squared_error")
    if loss == "squared_error":
        return
    if model.pretraining_task != "masked_value_prediction":
        faults.add(
            "model.value_loss",
            f"model.value_loss '{loss}' has no effect on what the model learns; set model.pretraining_task to "
            "'masked_value_prediction' or leave it out.",
        )
    elif getattr(token_maker(tokenizer), "value_transform", None) != "counts":
        faults.add(
            "model.value_loss",
            f"model.value_loss '{loss}' takes counts, but tokenizer '{tokenizer.strategy}' gives other values; set "
            "tokenizer.strategy to 'continuous_projection' and tokenizer.value_transform to 'counts'.",
        )


def agree_on_mask_value(sections: Mapping[str, Section]) -> None:
    """Give a tokenizer whose mask value was not set that of a model that has its own, in place."""
    tokenizer: Any = sections.get("tokenizer")
    own = getattr(sections.get("model"), "mask_value", None)
    if tokenizer is None or own is None:
        return
    maker: Any = token_maker(tokenizer)
    if "mask_value" not in type(maker).model_fields or "mask_value" in maker.model_fields_set:
        return
    if maker is tokenizer:
        maker.mask_value = own
    else:
        tokenizer.base["mask_value"] = own


def _check_mask_value(tokenizer: TokenizerConfig, model: ModelConfig, faults: Faults) -> None:
    maker, own = token_maker(tokenizer), getattr(model, "mask_value", None)
    given = getattr(maker, "mask_value", None)
    if own is None or given is None or "mask_value" not in maker.model_fields_set or given == own:
        return
    path = "tokenizer.mask_value" if maker is tokenizer else "tokenizer.base.mask_value"
    faults.add(
        path,
        f"{path} is {given:g}, but architecture '{model.architecture}' shows model.mask_value ({own:g}) where a value "
        "is hidden; leave the former out, or set both to one number.",
    )


def check_masking(tokenizer: TokenizerConfig, model: ModelConfig, objective: str, faults: Faults) -> None:
    """Refuse a way of hiding that leaves an objective nothing to ask, or a model without the question."""
    modes = getattr(OBJECTIVES.get(objective), "masking_modes", None)
    mode, path = tokenizer.masking.mode, "tokenizer.masking.mode"
    if modes is not None and mode not in modes:
        faults.add(
            path,
            f"{path} '{mode}' leaves genes visible, but {objective} asks which gene was hidden; "
            f"choose one of: {', '.join(modes)}.",
        )
    needs = getattr(MODELS.get(model.architecture), "value_masking", None) == "needed"
    if objective == "masked_value_prediction" and needs and mode != "value":
        faults.add(
            path,
            f"{path} is '{mode}', so architecture '{model.architecture}' would be asked for the value of a gene that "
            "it is not shown; set it to 'value'.",
        )


def unread_masking(tokenizer: TokenizerConfig, architecture: str) -> list[str]:
    """Return one line for each setting of masking that was changed and that, given the others, nothing reads."""
    masking = tokenizer.masking
    lines = []
    if masking.mode != "span" and masking.span_length != type(masking)().span_length:
        lines.append("tokenizer.masking.span_length has no effect without tokenizer.masking.mode 'span'.")
    if masking.mode == "value" and getattr(MODELS.get(architecture), "value_masking", None) == "no effect":
        lines.append(
            f"tokenizer.masking.mode 'value' has no effect on architecture '{architecture}', which is told the hidden "
            "genes in any case."
        )
    return lines
