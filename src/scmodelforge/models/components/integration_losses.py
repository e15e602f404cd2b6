"""What cells of several batches have in common: neighbours across batches, contrast within them, parts of expression.

All of it compares cells or scores them by themselves; none of it knows of a model.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from scmodelforge.constants import IGNORE_INDEX

__all__ = ["expression_shares", "matched_contrast", "mutual_neighbours", "pair_of_labels", "share_divergence"]


def expression_shares(input_ids: torch.Tensor, values: torch.Tensor | None, vocab_size: int) -> torch.Tensor:
    """Return which share each token has of a cell, shape (B, V), float32; zeros for a cell without any.

    A token counts log(1 + value), one without values 1, and one whose value is not positive, such as a special token or
    padding, nothing.

    Parameters
    ----------
    input_ids
        Token ids, shape (B, S).
    values
        Expression values, shape (B, S).
    vocab_size
        Number of tokens V.
    """
    weights = torch.ones_like(input_ids, dtype=torch.float32) if values is None else values.float().clamp(min=0).log1p()
    found = torch.zeros(len(input_ids), vocab_size, device=input_ids.device)
    found.scatter_add_(1, input_ids, weights)
    return found / found.sum(dim=1, keepdim=True).clamp(min=1e-12)


def share_divergence(logits: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Return the mean over cells of the Kullback-Leibler divergence of predicted from true shares, in nats.

    Parameters
    ----------
    logits
        Unnormalised log shares, shape (B, V).
    shares
        True ones, shape (B, V).

    Returns
    -------
    Scalar, at least in single precision; 0 without cells.
    """
    exact = torch.promote_types(logits.dtype, torch.float32)
    with torch.autocast(logits.device.type, enabled=False):
        predicted = logits.to(exact).log_softmax(dim=1)
        known = torch.special.xlogy(shares, shares)
        return (known - shares * predicted).sum() / max(1, len(logits))


def mutual_neighbours(profiles: torch.Tensor, batches: torch.Tensor, number: int) -> torch.Tensor:
    """Return which cells are among each other's nearest of the other's batch, shape (B, B), bool, symmetric.

    Mutual nearest neighbours by the cosine (Haghverdi et al. 2018, doi:10.1038/nbt.4091).

    Parameters
    ----------
    profiles
        What cells are compared by, shape (B, G).
    batches
        Batch of each cell, shape (B,); those of none (-100) are nobody's neighbours.
    number
        How many nearest cells of each other batch.
    """
    with torch.autocast(profiles.device.type, enabled=False):
        unit = F.normalize(profiles.float(), dim=1)
        similarity = unit @ unit.T
    is_near = torch.zeros_like(similarity, dtype=torch.bool)
    for batch in batches[batches != IGNORE_INDEX].unique():
        cells = (batches == batch).nonzero(as_tuple=True)[0]
        nearest = similarity[:, cells].topk(min(number, len(cells)), dim=1).indices
        is_near.scatter_(1, cells[nearest], True)
    is_known = batches != IGNORE_INDEX
    is_across = (batches[:, None] != batches[None]) & is_known[:, None] & is_known[None]
    return is_near & is_near.T & is_across


def pair_of_labels(labels: torch.Tensor) -> torch.Tensor:
    """Return which cells have the same label, shape (B, B), bool; cells without one (-100) have it with nobody."""
    return (labels[:, None] == labels[None]) & (labels != IGNORE_INDEX)[:, None]


def matched_contrast(
    cells: torch.Tensor,
    others: torch.Tensor,
    *,
    is_match: torch.Tensor,
    batches: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """Ask of each cell for itself seen another way and for its matches, among the cells of its own batch.

    The supervised contrastive loss (Khosla et al. 2020, arXiv:2004.11362, its L_out) on cosine / temperature. Here a
    cell is told from cells of its own batch only: told from those of others, it would be paid for keeping what the
    batches differ in. It depends on which cells share the batch.

    Parameters
    ----------
    cells, others
        Vectors of the same cells seen in two ways, shape (B, H).
    is_match
        Which further cells each one belongs to, shape (B, B), bool.
    batches
        Batch of each cell, shape (B,).
    temperature
        Divides the cosines.

    Returns
    -------
    Mean over the cells in nats, at least in single precision; 0 without cells.
    """
    exact = torch.promote_types(cells.dtype, torch.float32)
    with torch.autocast(cells.device.type, enabled=False):
        scores = F.normalize(cells.to(exact), dim=1) @ F.normalize(others.to(exact), dim=1).T / temperature
    is_own = torch.eye(len(cells), dtype=torch.bool, device=cells.device)
    is_wanted = is_match | is_own
    is_seen = is_wanted | (batches[:, None] == batches[None])
    loss = _contrast(scores, is_wanted, is_seen) + _contrast(scores.T, is_wanted.T, is_seen.T)
    return loss / (2 * max(1, len(cells)))


def _contrast(scores: torch.Tensor, is_wanted: torch.Tensor, is_seen: torch.Tensor) -> torch.Tensor:
    log_shares = scores - scores.masked_fill(~is_seen, -torch.inf).logsumexp(dim=1, keepdim=True)
    return -(log_shares.masked_fill(~is_wanted, 0.0).sum(dim=1) / is_wanted.sum(dim=1)).sum()
