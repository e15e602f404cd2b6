"""Settings that are right by themselves and wrong together."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

from scmodelforge._errors import ConfigError
from scmodelforge._registry import MODELS, OBJECTIVES
from scmodelforge.config.backbone import token_reader
from scmodelforge.config.best_metric import check_best_metric
from scmodelforge.config.count_checks import check_counts, check_counts_arrive, check_whole_counts
from scmodelforge.config.faults import Faults
from scmodelforge.config.gene_sections import check_gene_vocab
from scmodelforge.config.label_checks import check_labels
from scmodelforge.config.parts import allowed_objectives, objective_of, token_maker, tokenizer_fact
from scmodelforge.config.recipe_checks import check_recipe, unread_schedule_settings
from scmodelforge.config.sampling_checks import check_sampling, check_split_file
from scmodelforge.config.schema import (
    DataConfig,
    EvalConfig,
    ModelConfig,
    PreprocessingConfig,
    RunConfig,
    Section,
    TokenizerConfig,
)
from scmodelforge.config.tokenizer_checks import check_masking, check_value_use, unread_masking

__all__ = ["agree_on_bins", "check_together", "warn_of_unused"]

_log = logging.getLogger(__name__)
#: Settings of masking; an objective that reads some of them only names these (``reads_masking``).
_MASKING = frozenset({"mode", "span_length", "mask_ratio", "mask_token_prob", "random_token_prob"})


def agree_on_bins(sections: Mapping[str, Section], faults: Faults) -> None:
    """Give a tokenizer and a model that both have bins one number of them, wherever it was set.

    Parameters
    ----------
    sections
        Those without a mistake of their own; changed in place.
    faults
        Gets a line if the number was set twice and differently.
    """
    tokenizer, model = cast("Any", sections.get("tokenizer")), cast("ModelConfig | None", sections.get("model"))
    if tokenizer is None or model is None or "n_bins" not in type(token_maker(tokenizer)).model_fields:
        return
    maker: Any = token_maker(tokenizer)
    path = "tokenizer" if maker is tokenizer else "tokenizer.base"
    model = token_reader(model)
    if "n_bins" in getattr(MODELS.get(model.architecture), "unused_settings", frozenset()):
        return
    is_set = ["n_bins" in section.model_fields_set for section in (maker, model)]
    if all(is_set) and maker.n_bins != model.n_bins:
        faults.add(
            f"{path}.n_bins",
            f"{path}.n_bins ({maker.n_bins}) and model.n_bins ({model.n_bins}) are one setting with two values; "
            "keep one of them.",
        )
    elif is_set == [False, True]:
        if maker is tokenizer:
            tokenizer.n_bins = model.n_bins
        else:
            tokenizer.base["n_bins"] = model.n_bins
    elif maker.n_bins != model.n_bins:
        model.n_bins = maker.n_bins


def check_together(sections: Mapping[str, Section], faults: Faults) -> None:
    """Check sections against each other.

    Parameters
    ----------
    sections
        Those without a mistake of their own; a check that needs another one is left out.
    faults
        Gets a line for each contradiction.
    """
    data = cast("DataConfig | None", sections.get("data"))
    tokenizer = cast("TokenizerConfig | None", sections.get("tokenizer"))
    model = cast("ModelConfig | None", sections.get("model"))
    evaluation = cast("EvalConfig | None", sections.get("eval"))
    reader = None if model is None else token_reader(model)
    if model is not None and reader is not None:
        _check_heads(reader, faults)
        _check_objective(model, tokenizer, faults)
        _check_weights(model, faults)
    if tokenizer is not None and reader is not None:
        _check_lengths(tokenizer, reader, faults)
        _check_cls(token_maker(tokenizer), reader, faults)
        _check_values(token_maker(tokenizer), reader, faults)
        check_value_use(tokenizer, reader, faults)
        check_counts_arrive(tokenizer, reader, faults)
    if data is not None and tokenizer is not None:
        _check_counts(data, tokenizer, faults)
    if data is not None and model is not None:
        check_labels(data, model, faults)
        check_whole_counts(data, model, faults)
    if data is not None:
        _check_split(data, evaluation, faults)
        check_sampling(data, faults)
        check_gene_vocab(data, faults)
    check_recipe(sections, faults)
    check_best_metric(sections, faults)


def warn_of_unused(config: RunConfig, origin: str) -> None:
    """Log a warning for each setting that differs from its default and that, given the others, nothing reads."""
    architecture, reader = config.model.architecture, token_reader(config.model)
    unused: frozenset[str] = getattr(MODELS.get(reader.architecture), "unused_settings", frozenset())
    for name in sorted(reader.model_fields_set & unused):
        if getattr(reader, name) != type(reader).model_fields[name].get_default(call_default_factory=True):
            _log.warning(f"{origin}: model.{name} has no effect on architecture '{reader.architecture}'.")
    for name, why in getattr(reader, "unread_settings", {}).items():
        if getattr(reader, name) != type(reader).model_fields[name].get_default(call_default_factory=True):
            _log.warning(f"{origin}: model.{name} has no effect {why}.")
    if "value_embedding" in reader.model_fields_set and not reader.use_expression_values:
        _log.warning(f"{origin}: model.value_embedding has no effect with model.use_expression_values: false.")
    preprocessing, scheduler = config.data.preprocessing, config.training.scheduler
    for name, switch in _unread(preprocessing):
        _log.warning(f"{origin}: data.preprocessing.{name} has no effect without data.preprocessing.{switch}.")
    for name in unread_schedule_settings(scheduler):
        _log.warning(f"{origin}: training.scheduler.{name} has no effect on scheduler '{scheduler.name}'.")
    if config.training.strategy != "fsdp":
        fsdp = config.training.fsdp
        for name in sorted(name for name, value in fsdp if value != getattr(type(fsdp)(), name)):
            _log.warning(f"{origin}: training.fsdp.{name} has no effect without training.strategy: fsdp.")
    ignored = _MASKING - getattr(OBJECTIVES.get(objective_of(config.model)), "reads_masking", _MASKING)
    masking = config.tokenizer.masking
    for name in sorted(name for name in ignored if getattr(masking, name) != getattr(type(masking)(), name)):
        _log.warning(f"{origin}: tokenizer.masking.{name} has no effect on what '{architecture}' is trained on.")
    for line in unread_masking(config.tokenizer, architecture):
        _log.warning(f"{origin}: {line}")
    if preprocessing.normalize and tokenizer_fact(config.tokenizer, "normalizes", False):
        is_slow = preprocessing.normalize == "scran"
        _log.log(
            logging.WARNING if is_slow else logging.INFO,
            f"{origin}: data.preprocessing.normalize changes nothing for tokenizer '{config.tokenizer.strategy}', "
            f"which divides by each cell's total itself{'; without it much time is saved' if is_slow else ''}.",
        )


def _unread(preprocessing: PreprocessingConfig) -> list[tuple[str, str]]:
    """Return the settings that were changed and that another one, named with each, leaves without a reader."""
    switches = {"hvg_flavor": "hvg_selection", "hvg_batch_column": "hvg_selection"}
    is_off = {"hvg_selection": preprocessing.hvg_selection is None}
    switches["target_sum"] = "normalize: library_size" if preprocessing.normalize == "scran" else "normalize"
    is_off[switches["target_sum"]] = preprocessing.normalize != "library_size"
    default = type(preprocessing)()
    return [
        (name, switch)
        for name, switch in switches.items()
        if is_off[switch] and getattr(preprocessing, name) != getattr(default, name)
    ]


def _check_lengths(tokenizer: TokenizerConfig, model: ModelConfig, faults: Faults) -> None:
    if tokenizer.max_genes > model.max_seq_len:
        faults.add(
            "tokenizer.max_genes",
            f"{faults.spelling('tokenizer.max_genes')} ({tokenizer.max_genes}) exceeds model.max_seq_len "
            f"({model.max_seq_len}); raise the latter or lower the former.",
        )


def _check_cls(tokenizer: TokenizerConfig, model: ModelConfig, faults: Faults) -> None:
    pooling = model.pooling or getattr(MODELS.get(model.architecture), "default_pooling", "mean")
    if pooling == "cls" and getattr(tokenizer, "add_cls", True) is False:
        faults.add(
            "model.pooling",
            "model.pooling is 'cls', but tokenizer.add_cls is false, so the first token of a cell is some gene; "
            "set model.pooling to 'mean' or tokenizer.add_cls to true.",
        )


def _check_values(tokenizer: TokenizerConfig, model: ModelConfig, faults: Faults) -> None:
    is_scaled = getattr(tokenizer, "value_scale", "unit") == "unit"
    reads_bins = getattr(model, "value_embedding", None) == "bins" and model.use_expression_values
    if reads_bins and not is_scaled:
        faults.add(
            "tokenizer.value_scale",
            "tokenizer.value_scale is 'index', but model.value_embedding 'bins' reads values of 0 to 1; "
            "set tokenizer.value_scale to 'unit' or model.value_embedding to 'linear'.",
        )
    for name in ("cls_value", "pad_value", "mask_value"):
        value = getattr(tokenizer, name, 0)
        if reads_bins and value != 0:
            faults.add(
                f"tokenizer.{name}",
                f"tokenizer.{name} is {value:g}, but model.value_embedding 'bins' has a vector for 0 and none for it; "
                f"set tokenizer.{name} to 0 or model.value_embedding to 'linear'.",
            )


def _check_heads(model: ModelConfig, faults: Faults) -> None:
    unused = getattr(MODELS.get(model.architecture), "unused_settings", None)
    # A user's own model does not say what it reads: it has heads if the user gives it a number of heads.
    has_heads = "num_heads" in model.model_fields_set if unused is None else "num_heads" not in unused
    if has_heads and model.hidden_dim % model.num_heads:
        faults.add(
            "model.hidden_dim",
            f"model.hidden_dim ({model.hidden_dim}) is not a multiple of model.num_heads ({model.num_heads}); "
            "change one of them.",
        )
    if unused is None or "decoder_dim" in unused:
        return
    width = model.hidden_dim // 2 if model.decoder_dim is None else model.decoder_dim
    heads = model.num_heads if model.decoder_heads is None else model.decoder_heads
    if width % heads:
        faults.add(
            "model.decoder_dim",
            f"model.decoder_dim ({width}) is not a multiple of model.decoder_heads ({heads}); change one of them.",
        )


def _check_weights(model: ModelConfig, faults: Faults) -> None:
    unused = getattr(MODELS.get(model.architecture), "unused_settings", None)
    is_read = unused is not None and "gene_loss_weight" not in unused
    if is_read and not model.gene_loss_weight and not model.expression_loss_weight:
        faults.add(
            "model.gene_loss_weight",
            "model.gene_loss_weight and model.expression_loss_weight are both 0, so nothing is learned; raise one.",
        )


def _check_objective(model: ModelConfig, tokenizer: TokenizerConfig | None, faults: Faults) -> None:
    allowed, task = allowed_objectives(model), objective_of(model)
    path = "model.pretraining_task"
    if allowed is not None and task not in allowed:
        faults.add(
            path,
            f"{path} '{task}' does not work with architecture '{model.architecture}'; "
            f"it can be trained on: {', '.join(allowed)}.",
        )
        return
    try:
        objective = OBJECTIVES.get(task)
    except ConfigError as problem:
        faults.add(path, f"{path}: {problem}")
        return
    if tokenizer is None:
        return
    check_masking(tokenizer, model, task, faults)
    check_counts(tokenizer, model, task, faults)
    provides = tokenizer_fact(tokenizer, "provides", None)
    missing = sorted(getattr(objective, "needs", frozenset()) - provides) if provides is not None else []
    if missing:
        faults.add(
            path,
            f"{path} '{task}' needs {', '.join(missing)} of each gene, which tokenizer.strategy "
            f"'{tokenizer.strategy}' does not provide; choose another tokenizer.strategy or {path}.",
        )


def _check_counts(data: DataConfig, tokenizer: TokenizerConfig, faults: Faults) -> None:
    expects = tokenizer_fact(tokenizer, "expects", "any")
    if data.preprocessing.log1p and expects == "counts":
        faults.add(
            "data.preprocessing.log1p",
            f"data.preprocessing.log1p is true, but tokenizer.strategy '{tokenizer.strategy}' needs values that are "
            "not logarithms; set data.preprocessing.log1p to false or choose another tokenizer.strategy.",
        )
    method = getattr(tokenizer, "method", "quantile")
    if data.preprocessing.normalize == "scran" and method != "quantile":
        faults.add(
            "tokenizer.method",
            f"tokenizer.method is '{method}', whose bins are fitted in the pass before data.preprocessing.normalize "
            "'scran' has its size factors; set the latter to 'library_size' or tokenizer.method to 'quantile'.",
        )


def _check_split(data: DataConfig, evaluation: EvalConfig | None, faults: Faults) -> None:
    split = data.split
    if split.file is not None:
        check_split_file(split, faults)
        return
    if split.validation_groups is not None and split.by in {"auto", "cells"}:
        faults.add(
            "data.split.validation_groups",
            f"data.split.validation_groups needs a column to find the groups in, but data.split.by is '{split.by}'; "
            "set data.split.by to an obs column.",
        )
    holds_out = split.validation_fraction > 0 if split.validation_groups is None else bool(split.validation_groups)
    own = [each.name for each in evaluation.benchmarks if each.dataset is None] if evaluation is not None else []
    if own and not holds_out:
        reason = "validation_fraction is 0" if split.validation_groups is None else "validation_groups has no group"
        faults.add(
            "data.split",
            f"data.split.{reason}, so no cells are held out, but eval.benchmarks ({', '.join(own)}) need held-out "
            "cells; hold out some, or give the benchmarks a dataset of their own.",
        )
