"""The loss of a model that names a next gene and its bin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models.components.later_genes import later_genes
from scmodelforge.models.components.losses import gathered_cross_entropy, masked_cross_entropy
from scmodelforge.models.components.repeats import restriction

if TYPE_CHECKING:
    from scmodelforge.models.autoregressive import AutoregressiveTransformer

__all__ = ["next_gene_terms"]


def next_gene_terms(
    model: AutoregressiveTransformer,
    states: torch.Tensor,
    labels: torch.Tensor,
    bin_ids: torch.Tensor | None,
    *,
    logits: torch.Tensor | None,
    named: torch.Tensor | None,
) -> dict[str, torch.Tensor]:
    """Return the terms of the loss with their weights.

    Parameters
    ----------
    model
        The model.
    states
        What the heads read at each position, shape (B, S, H).
    labels, bin_ids
        Next genes and their bins, -100 where there is none, shape (B, S). Without bins there is no term of them.
    logits
        Scores of genes, shape (B, S, V), without those that are excluded; ``None`` computes the labelled ones.
    named
        Tokens of the cells, shape (B, S), if those named before are excluded.
    """
    measure = later_genes(labels) if model.gene_target == "set" else None
    if logits is None:
        special_ids = model.embedding.special_ids
        restrict = None if named is None else restriction(named, labels, special_ids=special_ids)
        gene_loss = gathered_cross_entropy(states, labels, model.gene_head, restrict=restrict, measure=measure)
    elif measure is not None:
        gene_loss = gathered_cross_entropy(logits, labels, nn.Identity(), measure=measure)
    else:
        gene_loss = masked_cross_entropy(logits, labels)
    terms = {"next_gene": model.gene_loss_weight * gene_loss}
    if bin_ids is not None:
        is_target = labels != IGNORE_INDEX
        model.check_bins(bin_ids[is_target])
        bin_logits = model.score_bins(states[is_target], labels[is_target])  # (M, K)
        terms["expression_bin"] = model.expression_loss_weight * masked_cross_entropy(bin_logits, bin_ids[is_target])
    return terms
