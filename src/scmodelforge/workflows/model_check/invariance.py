"""Checks: padding changes nothing, cells do not see each other, and a causal model does not see what comes later."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from scmodelforge.workflows.model_check.cells import VOCAB_SIZE, widened, without
from scmodelforge.workflows.model_check.results import Check, difference, fail, skip
from scmodelforge.workflows.model_check.subject import Subject

__all__ = ["CHECKS"]

_CLOSE = 1e-5
_ODD: dict[str, float] = {
    "input_ids": VOCAB_SIZE - 1,
    "gene_ids": VOCAB_SIZE - 1,
    "bin_ids": 3,
    "values": float("nan"),
    "targets": float("nan"),
}
_NEXT_GENE = ("next_gene_prediction", "next_count_prediction")


def _modes(subject: Subject) -> list[nn.Module]:
    """Return the model in evaluation and, unless it draws even without dropout, in training."""
    training = subject.model().train()
    for module in training.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    embedded = [subject.encode(training, subject.clean(), seed=seed) for seed in (0, 1)]
    answered = [subject.forward(training, subject.clean(), seed=seed).logits for seed in (0, 1)]
    draws = difference(*embedded) > 0 or difference(*answered) > 0
    return [subject.model()] if draws else [subject.model(), training]


def _padding_content(subject: Subject) -> None:
    for model in _modes(subject):
        _check_padding_content(subject, model)


def _check_padding_content(subject: Subject, model: nn.Module) -> None:
    for what, batch in (("a batch with labels", subject.batch()), ("a batch for embedding", subject.clean())):
        is_padding = batch["attention_mask"] == 0
        for name in sorted(set(_ODD) & set(batch)):
            odd = {**batch, name: batch[name].masked_fill(is_padding, _ODD[name])}
            _check_same(
                _seen(subject, model, batch),
                _seen(subject, model, odd),
                f"of {what} change by {{gap:.2g}} when {name} is {_ODD[name]:g} at padding",
                "what stands at padding must not count; begin with blank_padding(input_ids, values, attention_mask), "
                "and mask attention and pooling",
            )


def _padding_amount(subject: Subject) -> None:
    for model in _modes(subject):
        _check_padding_amount(subject, model)


def _check_padding_amount(subject: Subject, model: nn.Module) -> None:
    for what, batch in (("a batch with labels", subject.batch()), ("a batch for embedding", subject.clean())):
        _check_same(
            _seen(subject, model, batch),
            _seen(subject, model, widened(batch, 7)),
            f"of {what} change by {{gap:.2g}} with 7 more columns of padding",
            "the amount of padding must not count; mask attention and pooling with attention_mask, and take the mean "
            "of the loss over the targets only",
        )


def _seen(subject: Subject, model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor | None]:
    """Return what padding must not change: embeddings and loss, and the logits of real tokens."""
    output = subject.forward(model, batch)
    logits = output.logits
    return {
        "embeddings of encode": subject.encode(model, batch),
        "embeddings of forward": output.embeddings,
        "loss": output.loss,
        "logits at real tokens": None if logits is None else subject.real_logits(logits, batch["attention_mask"]),
    }


def _check_same(before: dict[str, Any], after: dict[str, Any], what: str, needed: str) -> None:
    for part, value in before.items():
        gap = difference(value, after[part])
        if gap > _CLOSE:
            fail(f"{part} {what.format(gap=gap)}; {needed}")


def _cells_apart(subject: Subject) -> None:
    for model in _modes(subject):
        _check_apart(subject, model)


def _check_apart(subject: Subject, model: nn.Module) -> None:
    for batch in (subject.batch(), subject.clean()):
        changed = dict(batch)
        genes = torch.arange(batch["input_ids"].shape[1]) % (VOCAB_SIZE - 4) + 4
        changed["input_ids"] = batch["input_ids"].clone()
        changed["input_ids"][0, 1:] = genes.flip(0)[1:]
        changed["values"] = batch["values"].clone()
        changed["values"][0] += 3
        turned = {name: value.flip(0) if _has_cells(value, batch) else value for name, value in batch.items()}
        seen = _by_cell(subject, model, batch)
        for part, value in _by_cell(subject, model, changed).items():
            gap = difference(seen[part][1:], value[1:])
            if gap > _CLOSE:
                fail(
                    f"{part} of other cells change by {gap:.2g} when the first cell of a batch changes; cells must "
                    "not see each other, in training neither; look for operations over the batch dimension, "
                    "such as batch norm"
                )
        for part, value in _by_cell(subject, model, turned).items():
            gap = difference(seen[part], value.flip(0))
            if gap > _CLOSE:
                fail(f"{part} change by {gap:.2g} with the order of the cells in a batch; treat each cell by itself")


def _has_cells(value: torch.Tensor, batch: dict[str, torch.Tensor]) -> bool:
    return value.ndim > 0 and len(value) == len(batch["input_ids"])


def _by_cell(subject: Subject, model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    output = subject.forward(model, batch)
    logits, mask = output.logits, batch["attention_mask"]
    assert logits is not None
    assert output.embeddings is not None
    if subject.logits_of == "positions":
        logits = logits.masked_fill((mask == 0).view(*mask.shape, *[1] * (logits.ndim - 2)), 0)
    return {
        "embeddings of forward": output.embeddings,
        "embeddings of encode": subject.encode(model, batch),
        "logits": logits,
    }


def _causal(subject: Subject) -> None:
    if not subject.is_causal and subject.objective_name not in _NEXT_GENE:
        skip("the class does not say is_causal = True")
    model, plain = subject.model(), without(subject.batch(), "labels", "prefix_len")
    for is_training in (False, True):
        model.train(is_training)
        for prefix in (None, 1, 4):
            given = {} if prefix is None else {"prefix_len": torch.full((len(plain["input_ids"]),), prefix)}
            _check_causal(subject, model, {**plain, **given}, prefix)
            labels = {"labels": subject.batch()["labels"]}
            _check_causal(subject, model, {**plain, **given, **labels}, prefix)


def _check_causal(subject: Subject, model: nn.Module, batch: dict[str, torch.Tensor], prefix: int | None) -> None:
    before = _logits(subject, model, batch)
    is_real = batch["attention_mask"] != 0
    first = 0 if prefix is None else prefix - 1
    mode = "training" if model.training else "evaluation"
    behind = f"without a prefix, in {mode}" if prefix is None else f"with prefix_len {prefix}, in {mode}"
    for place in range(first + 1, batch["input_ids"].shape[1]):
        changed = dict(batch)
        is_gene = batch["input_ids"][:, place:] >= 4
        others = (batch["input_ids"][:, place:] - 4 + 17) % (VOCAB_SIZE - 4) + 4
        for name, value in (("input_ids", others), ("gene_ids", others), ("values", batch["values"][:, place:] + 1.5)):
            if name in batch:
                changed[name] = batch[name].clone()
                changed[name][:, place:] = torch.where(is_gene, value, batch[name][:, place:])
        after = _logits(subject, model, changed)
        kept = is_real[:, first:place]
        gap = difference(before[:, first:place][kept], after[:, first:place][kept])
        if gap > _CLOSE:
            fail(
                f"logits before position {place} change by {gap:.2g} when tokens and values from there on change "
                f"({behind}); a position must see only what comes before it and the prefix; "
                "give attention the mask of prefix_mask(S, prefix_len)"
            )
        gap = _gap_to_cut(subject, model, batch, before, first=first, place=place)
        if gap > _CLOSE:
            fail(
                f"logits before position {place} change by {gap:.2g} when the cells end there ({behind}); a position "
                "must not know how many tokens come after it; take no mean and no length over the whole cell"
            )


def _gap_to_cut(
    subject: Subject, model: nn.Module, batch: dict[str, torch.Tensor], before: torch.Tensor, *, first: int, place: int
) -> float:
    """Return by how much logits change when nothing comes from a position on."""
    shape = batch["input_ids"].shape
    cut = {name: value[:, :place] if value.shape[:2] == shape else value for name, value in batch.items()}
    kept = cut["attention_mask"][:, first:] != 0
    return difference(before[:, first:place][kept], _logits(subject, model, cut)[:, first:][kept])


def _logits(subject: Subject, model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    logits = subject.forward(model, batch).logits
    assert logits is not None
    return logits


CHECKS = (
    Check("what stands at padding changes nothing", _padding_content),
    Check("the amount of padding changes nothing", _padding_amount),
    Check("cells do not see each other", _cells_apart),
    Check("later tokens are not seen", _causal),
)
