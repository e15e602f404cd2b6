"""Checks: what is to be predicted reaches the loss and nothing else."""

from __future__ import annotations

import torch

from scmodelforge.workflows.model_check.cells import NUM_BINS, VOCAB_SIZE
from scmodelforge.workflows.model_check.results import Check, difference, fail, skip
from scmodelforge.workflows.model_check.subject import NUM_LABELS, Subject

__all__ = ["CHECKS"]

_TINY = 1e-6


def _no_leak(subject: Subject) -> None:
    model, batch = subject.model(), subject.batch()
    _need_something_hidden(subject, batch)
    for is_training in (False, True):
        model.train(is_training)
        before = subject.forward(model, batch)
        for what, changed in _hidden_changed(subject, batch).items():
            after = subject.forward(model, changed)
            for part in ("logits", "embeddings"):
                gap = difference(getattr(before, part), getattr(after, part))
                if gap > _TINY:
                    mode = "training" if is_training else "evaluation"
                    fail(
                        f"{part} change by {gap:.2g} (in {mode}) when {what} changes, which is what the model is to "
                        f"predict or was hidden from it; {part} must not depend on it; {_advice(subject)}"
                    )


def _advice(subject: Subject) -> str:
    if subject.predicts_values():
        return (
            "use targets for the loss only, and at masked_positions replace ids and values before embedding them; "
            "which gene is asked stands in gene_ids"
        )
    return "use labels, targets and bin_ids for the loss only, and do not read gene_ids"


def _need_something_hidden(subject: Subject, batch: dict[str, torch.Tensor]) -> None:
    if "targets" not in batch and subject.predicts_values():
        skip("the objective hides nothing: values are asked for, and its batches have no targets apart from them")


def _loss_follows(subject: Subject) -> None:
    model, batch = subject.model(), subject.batch()
    _need_something_hidden(subject, batch)
    before = subject.forward(model, batch)
    changed = _hidden_changed(subject, batch)
    needed = ["targets"] if subject.predicts_values() else [subject.asked]
    for name, term in (("bin_ids", "expression_bin"), ("targets", "expression_count")):
        if name in changed and term in (before.loss_terms or {}):
            needed.append(name)
    for is_training in (False, True):
        model.train(is_training)
        loss = subject.loss(model, batch)
        for name in needed:
            if difference(loss, subject.loss(model, changed[name])) <= _TINY:
                fail(
                    f"the loss stays the same when {name} changes; it must measure the distance to what is asked for; "
                    f"compute it from {name} where {subject.asked} are not -100"
                )


def _hidden_changed(subject: Subject, batch: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Return the batch once for each thing that must not be seen, with that thing changed."""
    is_target = subject.targets(batch)
    if subject.asks_of_cells:
        others = (batch[subject.asked] + 1) % NUM_LABELS
        return {subject.asked: {**batch, subject.asked: torch.where(is_target, others, batch[subject.asked])}}
    others = _other_genes(batch)
    found: dict[str, torch.Tensor] = {}
    if "targets" in batch:
        found["targets"] = torch.where(is_target, batch["targets"] + 2.0, batch["targets"])  # counts stay counts
    if subject.predicts_values():
        hidden = batch.get("masked_positions", is_target)
        found["input_ids"] = torch.where(hidden, others, batch["input_ids"])
        found["values"] = torch.where(hidden, batch["values"] + 2.3, batch["values"])
        if "bin_ids" in batch:
            found["bin_ids"] = torch.where(hidden, 5, batch["bin_ids"])
    else:
        found["labels"] = torch.where(is_target, others, batch["labels"])
        if "gene_ids" in batch:
            is_gene = is_target if "masked_positions" in batch else batch["gene_ids"] >= 4
            found["gene_ids"] = torch.where(is_gene, others, batch["gene_ids"])
        if subject.objective_name == "next_gene_prediction":
            next_bin = batch["bin_ids"] % (NUM_BINS - 1) + 1
            found["bin_ids"] = torch.where(is_target, next_bin, batch["bin_ids"])
    return {name: {**batch, name: value} for name, value in found.items()}


def _other_genes(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return genes that a cell neither shows nor hides, shape (B, S)."""
    rows = []
    width = batch["input_ids"].shape[1]
    for cell in range(len(batch["input_ids"])):
        own = {int(gene) for name in ("input_ids", "labels", "gene_ids") if name in batch for gene in batch[name][cell]}
        free = torch.tensor([gene for gene in range(4, VOCAB_SIZE) if gene not in own])
        rows.append(free[torch.arange(width) % len(free)])
    return torch.stack(rows)


CHECKS = (
    Check("what is hidden does not leak", _no_leak),
    Check("the loss depends on what is asked for", _loss_follows),
)
