"""A target for the next gene of a set: every gene that is still to come is the next one equally often."""

from __future__ import annotations

import torch

from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models.components.losses import Measure

__all__ = ["later_genes"]


def later_genes(labels: torch.Tensor) -> Measure:
    """Return what sums the cross-entropy of labelled positions with a uniform distribution over what comes later.

    At a position whose later labels are R it is log(sum of exp(scores)) - mean of the scores of R. In a random order
    each of R is the next one with probability 1 / |R|, so that this is the mean, over the orders of what is left, of
    the cross-entropy with the label alone. The distributions are never built: the scores of R are looked up.

    Parameters
    ----------
    labels
        Next genes, -100 where there is none, shape (B, S). R are those of the same cell at the position and after it.
        Labels whose score is ``-inf``, because they were named before, are not among them.

    Returns
    -------
    For :func:`~scmodelforge.models.components.losses.gathered_cross_entropy`.
    """
    cells, positions = torch.nonzero(labels != IGNORE_INDEX, as_tuple=True)
    columns = torch.arange(labels.shape[1], device=labels.device)

    def measure(logits: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        own = labels[cells[numbers]]  # (M, S)
        is_later = (own != IGNORE_INDEX) & (columns >= positions[numbers][:, None])
        scores = logits.gather(1, own.masked_fill(~is_later, 0))
        is_later = is_later & (scores != float("-inf"))
        means = scores.masked_fill(~is_later, 0.0).sum(dim=1) / is_later.sum(dim=1).clamp(min=1)
        return (logits.logsumexp(dim=1) - means).sum()

    return measure
