"""Checks: what forward and encode answer, and that they answer the same again."""

from __future__ import annotations

import copy

import torch
from torch import nn

from scmodelforge.workflows.model_check.cells import VOCAB_SIZE, without
from scmodelforge.workflows.model_check.results import Check, difference, fail, skip
from scmodelforge.workflows.model_check.subject import NUM_LABELS, Subject, seed_draws

__all__ = ["CHECKS"]

_EXACT = 1e-6


def _forward_answers(subject: Subject) -> None:
    model, batch = subject.model(), subject.batch()
    for mode in ("evaluation", "training"):
        model.train(mode == "training")
        output = subject.forward(model, batch)
        _check_loss(output.loss, mode)
        _check_embeddings(output.embeddings, len(batch["input_ids"]), f"forward's embeddings in {mode}")
        _check_logits(subject, output.logits, batch)
    unlabelled = subject.forward(model.eval(), subject.unlabelled())
    if unlabelled.loss is not None:
        fail("forward gave a loss without labels; it must be None then; compute it only if labels is not None")
    _check_embeddings(unlabelled.embeddings, len(batch["input_ids"]), "forward's embeddings without labels")
    _check_logits(subject, unlabelled.logits, batch)


def _check_loss(loss: torch.Tensor | None, mode: str) -> None:
    if not isinstance(loss, torch.Tensor):
        fail(f"the loss is {loss!r} in {mode}; it must be a scalar tensor; do not take .item()")
    if loss.shape != ():
        fail(f"the loss has shape {tuple(loss.shape)} in {mode}; it must be a scalar; take the mean over the targets")
    if not loss.is_floating_point() or torch.finfo(loss.dtype).bits < 32:
        fail(f"the loss is {loss.dtype}; it must be float32 or more exact; compute it from logits.float()")
    if not loss.isfinite():
        fail(
            f"the loss of a batch with labels is {loss.item()} in {mode}; it must be finite; "
            "look for a mean over nothing, a logarithm of 0 or what stands at padding"
        )


def _check_embeddings(embeddings: torch.Tensor | None, num_cells: int, what: str) -> None:
    if not isinstance(embeddings, torch.Tensor):
        fail(f"{what} are {embeddings!r}; they must be a tensor of shape (B, H); return the pooled hidden states")
    if embeddings.ndim != 2 or len(embeddings) != num_cells:
        fail(
            f"{what} have shape {tuple(embeddings.shape)} for {num_cells} cells; they must have shape (B, H); "
            "pool the tokens of each cell into one vector"
        )
    if not embeddings.isfinite().all():
        cells = torch.nonzero(~embeddings.isfinite().all(dim=1)).flatten().tolist()
        fail(
            f"{what} are not finite for cells {cells} of the batch (cell 2 has only <cls>); they must be; look for a "
            "mean over nothing or attention that sees nothing"
        )


def _check_logits(subject: Subject, logits: torch.Tensor | None, batch: dict[str, torch.Tensor]) -> None:
    shape = tuple(batch["input_ids"].shape)
    if subject.logits_of != "positions":
        _check_logits_of_wholes(logits, len(batch["input_ids"]), subject.logits_of)
        return
    needed = "(B, S)" if subject.predicts_values() else f"(B, S, V) with V = vocab_size = {VOCAB_SIZE}"
    ask = f"they must have shape {needed}; return the predictions of every position unless return_logits is False"
    if not isinstance(logits, torch.Tensor):
        fail(f"forward's logits are {logits!r}; {ask}")
    expected = shape if subject.predicts_values() else (*shape, VOCAB_SIZE)
    if tuple(logits.shape) != expected:
        fail(f"forward's logits have shape {tuple(logits.shape)} for a batch of {shape}; {ask}")
    if logits[batch["attention_mask"] != 0].isnan().any():
        fail("forward's logits are NaN at real tokens; they must be numbers; look for attention that sees nothing")


def _check_logits_of_wholes(logits: torch.Tensor | None, num_cells: int, of: str) -> None:
    number, each = (NUM_LABELS, "label") if of == "cells" else (VOCAB_SIZE, "token of the vocabulary")
    expected = (num_cells, number)
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != expected or logits.isnan().any():
        seen = tuple(logits.shape) if isinstance(logits, torch.Tensor) else logits
        shape = "(B, C)" if of == "cells" else "(B, V)"
        fail(
            f"forward's logits are {seen}, or NaN; the class says logits_of = '{of}', so they must be numbers of "
            f"shape {shape}, here {expected}; return one for each {each}"
        )


def _encode_answers(subject: Subject) -> None:
    model, batch = subject.model(), subject.clean()
    embeddings = subject.encode(model, batch)
    _check_embeddings(embeddings, len(batch["input_ids"]), "encode's embeddings")
    if len(torch.unique(embeddings.detach(), dim=0)) == 1:
        fail(
            "encode gave the same embedding for all cells of the batch; cells of other genes must get others; "
            "pool hidden states that depend on the genes"
        )


def _encode_is_forward(subject: Subject) -> None:
    model = subject.model()
    clean = without(subject.clean(), "labels")
    pairs = {"with nothing hidden": clean}
    how = "with nothing hidden"
    if subject.is_causal:
        clean["prefix_len"] = (clean["attention_mask"] != 0).sum(dim=1)
        pairs, how = {"with prefix_len = number of tokens": clean}, "with full attention"
    elif not subject.predicts_values():
        pairs["of a batch with hidden genes"], how = subject.batch(), "from the same hidden states"
    for what, batch in pairs.items():
        gap = difference(subject.encode(model, batch), subject.forward(model, batch).embeddings)
        if gap > _EXACT:
            fail(
                f"encode and forward(...).embeddings {what} differ by {gap:.2g}; they must be equal; "
                f"let both pool in the same way, encode {how}"
            )
    tokens = {name: clean[name] for name in ("input_ids", "attention_mask", "values")}
    gap = difference(subject.encode(model, tokens), subject.encode(model, subject.clean()))
    if gap > _EXACT:
        fail(
            f"encode changes by {gap:.2g} when gene_ids and bin_ids are left out; they are no input of a cell; "
            "read input_ids, attention_mask and values only"
        )


def _unknown_keys_ignored(subject: Subject) -> None:
    model, batch = subject.model(), subject.batch()
    extra = {"key_of_another_objective": torch.full_like(batch["input_ids"], 5)}
    for method, answer in (("forward", model), ("encode", model.encode)):
        try:
            seed_draws(0)
            told = answer(**batch, **extra)  # type: ignore[operator]
        except TypeError as problem:
            fail(
                f"{method} refuses keys it does not know ({problem}); the whole batch is passed to it; "
                f"add **kwargs to {method}"
            )
        plain = subject.forward(model, batch) if method == "forward" else subject.encode(model, batch)
        if isinstance(plain, torch.Tensor):
            gap = difference(plain, told)
        else:
            gap = max(difference(plain.logits, told.logits), difference(plain.embeddings, told.embeddings))
        if gap > _EXACT:
            fail(f"{method} changes by {gap:.2g} with a key it does not know; unknown keys must be ignored")


def _mask_of_any_type(subject: Subject) -> None:
    model, batch = subject.model(), subject.batch()
    outcomes = {}
    for dtype in (torch.int64, torch.bool, torch.float32):
        other = {**batch, "attention_mask": batch["attention_mask"].to(dtype)}
        advice = "it may be of any type; begin with is_real = attention_mask != 0"
        try:
            output = subject.forward(model, other)
            outcomes[dtype] = (output.loss, output.embeddings, subject.encode(model, other))
        except Exception as problem:
            fail(f"an attention_mask of {dtype} gave {type(problem).__name__}: {str(problem)[:120]}; {advice}")
        gap = max(difference(one, two) for one, two in zip(outcomes[torch.int64], outcomes[dtype], strict=True))
        if gap > _EXACT:
            fail(f"an attention_mask of {dtype} changes the outcome by {gap:.2g} from that of int64; {advice}")


def _batch_not_changed(subject: Subject) -> None:
    model = subject.model()
    for method in ("forward", "encode"):
        for is_training in (False, True):
            batch = subject.batch()
            before = copy.deepcopy(batch)
            model.train(is_training)
            getattr(subject, method)(model, batch)
            changed = [name for name in before if difference(before[name], batch[name]) > 0]
            if changed:
                fail(
                    f"{method} changed {', '.join(changed)} of the batch it was given; others still need them; "
                    "use masked_fill instead of masked_fill_, or work on a clone"
                )


def _outcomes(subject: Subject, model: nn.Module, seed: int) -> list[torch.Tensor | None]:
    batch = subject.batch()
    output = subject.forward(model, batch, seed=seed)
    return [output.loss, output.logits, output.embeddings, subject.encode(model, batch, seed=seed)]


def _gap(subject: Subject, model: nn.Module) -> float:
    first, second = _outcomes(subject, model, 0), _outcomes(subject, model, 1)
    return max(difference(one, other) for one, other in zip(first, second, strict=True))


def _evaluation_deterministic(subject: Subject) -> None:
    for dropout in (0.0, 0.5):
        gap = _gap(subject, subject.trained(dropout=dropout))
        if gap > _EXACT:
            fail(
                f"two passes over the same batch in evaluation mode (dropout {dropout}) differ by {gap:.2g}; they must "
                "be equal; let dropout and other draws act only if self.training"
            )


def _dropout_in_training(subject: Subject) -> None:
    model = subject.trained(dropout=0.5)
    if _gap(subject, model.train()) > _EXACT:
        return
    modules = [m for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    if not modules:
        skip("the model has no dropout")
    rates = sorted({module.p for module in modules})
    fail(
        f"with model.dropout 0.5 two passes in training mode are equal (its dropout modules have rates {rates}); "
        "dropout must act in training; pass config.dropout on and call the modules"
    )


CHECKS = (
    Check("forward answers with a ModelOutput", _forward_answers),
    Check("encode gives an embedding of each cell", _encode_answers),
    Check("encode equals the embeddings of forward", _encode_is_forward),
    Check("unknown keys of a batch are ignored", _unknown_keys_ignored),
    Check("the attention mask may be of any type", _mask_of_any_type),
    Check("the batch is left as it was", _batch_not_changed),
    Check("evaluation is deterministic", _evaluation_deterministic),
    Check("dropout acts in training", _dropout_in_training),
)
