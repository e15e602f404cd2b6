"""Checks: batches with nothing to predict, without cells, and cells without tokens."""

from __future__ import annotations

import torch
from torch import nn

from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.training.objective import Objective
from scmodelforge.workflows.model_check.cells import tensors
from scmodelforge.workflows.model_check.results import Check, fail
from scmodelforge.workflows.model_check.subject import Subject

__all__ = ["CHECKS", "require_finite_gradients"]


def _no_targets(subject: Subject) -> None:
    batch = subject.batch()
    batch[subject.asked] = torch.full_like(batch[subject.asked], IGNORE_INDEX)
    if "masked_positions" in batch:
        batch["masked_positions"] = torch.zeros_like(batch["masked_positions"])
    without_any = {"a batch without targets": batch}
    if not subject.asks_of_cells:  # a label of its own such a cell may have
        only_cls = dict(subject.objective(subject.cells.select(torch.tensor([2]).numpy())))
        without_any["a cell with <cls> only"] = tensors(only_cls)
    for what, given in without_any.items():
        for options in _options(subject):
            model = subject.model().train()
            output = subject.forward(model, given, **options)
            loss = subject.asked_loss(output)
            # A mean over nothing is NaN; training's Objective does not run the model on such a batch.
            if loss.item() != 0 and not loss.isnan():
                fail(
                    f"the loss of {what} is {loss.item():.3g}; it must be 0; let nothing count but positions where "
                    "labels are not -100, divided by max(1, their number); a term of whole cells needs an entry in "
                    "counted_terms of the settings"
                )
            if loss.item() == 0 and loss.requires_grad and output.loss is not None:
                output.loss.backward()
                require_finite_gradients(model, what)
    _objective_gives_zero(subject, {**subject.batches[0], **batch})


def _objective_gives_zero(subject: Subject, batch: dict[str, object]) -> None:
    model = subject.model().train()
    terms = Objective(model)({**batch, "num_targets": dict.fromkeys(subject.objective.loss_terms, 0)})
    torch.stack(list(terms.values())).sum().backward()
    require_finite_gradients(model, "a batch without targets in training")


def _no_cells(subject: Subject) -> None:
    batch = tensors(subject.empty)
    for is_training in (False, True):
        for options in _options(subject):
            model = subject.model().train(is_training)
            output = subject.forward(model, batch, **options)
            found = {"forward": output.embeddings, "encode": subject.encode(model, batch)}
            for method, embeddings in found.items():
                if embeddings is None or embeddings.ndim != 2 or len(embeddings) != 0:
                    shape = None if embeddings is None else tuple(embeddings.shape)
                    fail(
                        f"{method} gave embeddings of shape {shape} for a batch of no cells; they must have shape "
                        "(0, H); do not squeeze, and take B from the shape of input_ids"
                    )
            if output.loss is None or (output.loss.item() != 0 and not output.loss.isnan()):
                fail(f"the loss of a batch of no cells is {output.loss}; it must be 0")


def _no_tokens(subject: Subject) -> None:
    batch = subject.batch()
    batch["attention_mask"][2] = 0  # the cell with <cls> only: nothing is asked of it
    model = subject.model()
    for is_training in (False, True):
        model.train(is_training)
        model.zero_grad()
        output = subject.forward(model, batch)
        found = {
            "loss": output.loss,
            "embeddings of forward": output.embeddings,
            "embeddings of encode": subject.encode(model, batch),
        }
        for part, value in found.items():
            if value is not None and not value.isfinite().all():
                fail(
                    f"{part} are not finite when one cell of the batch has no real token; they must be; pool with "
                    "mean_pool, and let attention of such a cell see its padding"
                )
        for value in (output.loss, found["embeddings of encode"]):
            if value is not None and value.requires_grad:
                model.zero_grad()
                value.square().sum().backward()
                require_finite_gradients(model, "a batch in which one cell has no real token")


def _options(subject: Subject) -> list[dict[str, bool]]:
    return [{}, {"return_logits": False}] if subject.takes_return_logits() else [{}]


def require_finite_gradients(model: nn.Module, what: str) -> None:
    """End the check as failed if a gradient is not finite."""
    bad = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    if bad:
        fail(
            f"the gradients of {', '.join(bad[:3])} ({len(bad)} in all) are not finite after {what}; they must be; "
            "look for a division by the number of targets or tokens, which may be 0"
        )


CHECKS = (
    Check("a batch without targets gives loss 0", _no_targets),
    Check("a batch without cells", _no_cells),
    Check("a cell without tokens stays finite", _no_tokens),
)
