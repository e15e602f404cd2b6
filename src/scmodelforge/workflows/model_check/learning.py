"""Checks: the model learns with all its weights, in bf16 too, and its loss is what training expects."""

from __future__ import annotations

import fnmatch
import math
from typing import Any

import torch
from torch import nn

from scmodelforge.training.objective import Objective
from scmodelforge.workflows.model_check.cells import copied
from scmodelforge.workflows.model_check.nothing import require_finite_gradients
from scmodelforge.workflows.model_check.results import Check, difference, fail, skip
from scmodelforge.workflows.model_check.subject import Subject

__all__ = ["CHECKS"]

_STEPS = 36
_MANY_STEPS = 108  # likelihoods of counts fall slowly
_RATES = (1e-2, 2e-3)
_NEEDED_FALL = 0.1
_CLOSE = 1e-5
_BF16 = 5e-2


def _labelled_rows(subject: Subject) -> None:
    if not subject.takes_return_logits():
        skip("forward has no parameter return_logits")
    full, few = subject.model().train(), subject.model().train()
    loss = subject.loss(full, subject.batch())
    same = subject.loss(few, subject.batch(), return_logits=False)
    needed = "both must be the same; let return_logits change what is computed, not what is averaged"
    gap = difference(loss, same)
    if gap > _CLOSE:
        fail(f"the loss with return_logits=False differs by {gap:.2g} from that with all logits; {needed}")
    loss.backward()
    same.backward()
    found = dict(few.named_parameters())
    for name, parameter in full.named_parameters():
        gap = _gradient_gap(parameter, found[name])
        if gap > _CLOSE:
            fail(f"the gradient of {name} with return_logits=False differs by {gap:.2g}; {needed}")


def _gradient_gap(one: nn.Parameter, other: nn.Parameter) -> float:
    zero = torch.zeros_like(one)
    return difference(zero if one.grad is None else one.grad, zero if other.grad is None else other.grad)


def _loss_falls(subject: Subject) -> None:
    if not any(p.requires_grad for p in subject.fresh().parameters()):
        skip("the model has no trainable weights")
    falls = []
    for steps, rate in (*((_STEPS, rate) for rate in _RATES), (_MANY_STEPS, _RATES[0])):
        first, last = _trained(subject, steps, rate)
        if math.isfinite(last) and first - last > _NEEDED_FALL * abs(first):
            return
        falls.append(f"from {first:.3f} to {last:.3f} with AdamW at {rate:g}")
    fail(
        f"in {_STEPS} steps on {len(subject.cells)} cells the loss went {falls[0]} and {falls[1]}, in {_MANY_STEPS} "
        f"steps {falls[2]}; it must fall by a tenth; look for detached tensors, a loss that forgets its targets, or "
        "first weights that are too large"
    )


def _trained(subject: Subject, steps: int, rate: float) -> tuple[float, float]:
    """Return the loss before and after some steps."""
    model = subject.fresh()
    first = _mean_loss(subject, model)
    _steps(subject, model, steps, rate)
    return first, _mean_loss(subject, model)


def _mean_loss(subject: Subject, model: nn.Module) -> float:
    objective = Objective(model).eval()
    with torch.no_grad():
        return sum(float(_total(objective, batch)) for batch in subject.batches) / len(subject.batches)


def _total(objective: Objective, batch: dict[str, Any]) -> torch.Tensor:
    return torch.stack(list(objective(copied(batch)).values())).sum()


def _steps(subject: Subject, model: nn.Module, number: int, rate: float) -> set[str]:
    """Train, and return the names of the weights that got a gradient."""
    objective = Objective(model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    reached: set[str] = set()
    for step in range(number):
        optimizer.zero_grad()
        loss = _total(objective, subject.batches[step % len(subject.batches)])
        if not loss.requires_grad:
            fail("the loss has no gradient; it must be computed from the weights; look for detach() or no_grad()")
        loss.backward()
        reached |= {name for name, p in model.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}
        optimizer.step()
    return reached


def _all_weights_learn(subject: Subject) -> None:
    model = subject.fresh()
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    if not trainable:
        skip("the model has no trainable weights")
    reached = _steps(subject, model, 6, 1e-2)
    claimed = frozenset(getattr(subject.model_class, "untrained_weights", ()))
    found = {pattern: fnmatch.filter(trainable, pattern) for pattern in claimed}
    stale = sorted(pattern for pattern, names in found.items() if not names or reached & set(names))
    if stale:
        fail(f"untrained_weights names {', '.join(stale)}, which the loss does train; take it out")
    claimed = frozenset(name for names in found.values() for name in names)
    connected = {name for name, p in model.named_parameters() if p.grad is not None}
    dead = [name for name in trainable if name not in reached and name not in claimed & connected]
    if dead:
        more = f" and {len(dead) - 6} more" if len(dead) > 6 else ""
        fail(
            f"no gradient, or only zeros, reaches {', '.join(dead[:6])}{more}; every trainable weight must take part "
            "in the loss (several devices wait for its gradient); use these weights, remove them or set "
            "requires_grad=False"
        )


def _loss_terms(subject: Subject) -> None:
    model = subject.model().train()
    output = subject.forward(model, subject.batch())
    terms = output.loss_terms
    if not terms:
        skip("the model gives no loss_terms")
    expected = subject.objective.loss_terms
    unknown = sorted(set(terms) - set(expected))
    if unknown:
        fail(
            f"loss_terms has '{unknown[0]}', but the objective '{subject.objective_name}' counts targets of "
            f"{', '.join(expected)}; terms must be named as the objective's; rename it"
        )
    total = torch.stack([term.float() for term in terms.values()]).sum()
    gap = difference(output.loss, total)
    if gap > _CLOSE:
        fail(
            f"loss_terms sum to {total.item():.4g}, the loss is {subject.loss(model, subject.batch()).item():.4g}; "
            "they must be equal; put weighted terms into loss_terms and add them up"
        )
    Objective(model)(copied(subject.batches[0]))


def _bf16(subject: Subject) -> None:
    options: list[dict[str, bool]] = [{}, {"return_logits": False}] if subject.takes_return_logits() else [{}]
    for option in options:
        model = subject.model().train()
        exact = subject.loss(model, subject.batch(), **option)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = subject.loss(model, subject.batch(), **option)
            embeddings = subject.encode(model, subject.clean())
        if torch.finfo(loss.dtype).bits < 32:
            fail(f"under bf16 autocast the loss is {loss.dtype}; it must be float32; compute it from logits.float()")
        gap = difference(exact, loss)
        if gap > _BF16:
            fail(
                f"under bf16 autocast the loss is {loss.item():.4g}, in float32 it is {exact.item():.4g}; they must "
                "be near each other; take sums, means and logarithms in float32"
            )
        if not embeddings.isfinite().all():
            fail("under bf16 autocast embeddings are not finite; take sums and means in float32")
        loss.backward()
        require_finite_gradients(model, "a pass under bf16 autocast")


def _loss_is_that_of_logits(subject: Subject) -> None:
    model, batch = subject.model(), subject.batch()
    output = subject.forward(model, batch)
    logits, is_target = output.logits, subject.targets(batch)
    assert logits is not None
    name = {
        "masked_gene_prediction": "masked_gene",
        "next_gene_prediction": "next_gene",
        "next_count_prediction": "next_gene",
        "masked_value_prediction": "masked_value",
        "cell_type_annotation": "annotation",
    }.get(subject.objective_name)
    loss = (output.loss_terms or {}).get(name or "", None if name == "next_gene" else output.loss)
    if name is None or loss is None:
        skip("the objective is another's, or the loss has no term of its own for what the logits predict")
    if name == "masked_value":
        if subject.logits_of == "genes":
            logits = logits.gather(1, batch["labels"].clamp(min=0))
        expected = (logits[is_target].float() - batch["targets"][is_target]).square().mean()
    else:
        expected = nn.functional.cross_entropy(logits[is_target].float(), batch[subject.asked][is_target])
    if name == "next_gene":
        expected = expected * subject.settings().gene_loss_weight
    gap = difference(expected, loss)
    if gap > _CLOSE:
        fail(
            f"the loss differs by {gap:.2g} from that of the logits at the labelled positions ({expected.item():.4g}); "
            "it must be the loss of these very predictions; compute it from the logits that forward returns"
        )


def _encode_learns(subject: Subject) -> None:
    model = subject.model().train()
    embeddings = subject.encode(model, subject.clean())
    how = "an embedding is what fine-tuning trains; do not detach it and use no torch.no_grad() in encode"
    if not embeddings.requires_grad:
        fail(f"encode gives embeddings without a graph; {how}")
    embeddings.square().sum().backward()
    require_finite_gradients(model, "a pass back through encode")
    if not any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters()):
        fail(f"no weight gets a gradient through encode; {how}")


CHECKS = (
    Check("the loss is that of the logits", _loss_is_that_of_logits),
    Check("embeddings can be trained", _encode_learns),
    Check("labelled rows only give the same loss", _labelled_rows),
    Check("the loss falls in training", _loss_falls),
    Check("every weight gets a gradient", _all_weights_learn),
    Check("loss terms are those of the objective", _loss_terms),
    Check("bf16 autocast", _bf16),
)
