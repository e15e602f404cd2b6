"""Losses over labelled positions. Without any they are 0 with a graph, so that no device or batch is special."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from scmodelforge._errors import DataError
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models.components.heads import ClassificationHead, TiedLinear

__all__ = [
    "Measure",
    "Restriction",
    "gathered_cross_entropy",
    "log_shares",
    "masked_cross_entropy",
    "masked_squared_error",
    "zero_truncated_poisson_loss",
]

#: Logits that exist at once, 64 MiB in single precision; more rows than that are scored part by part.
_LOGITS_AT_ONCE = 2**24

#: Rates below this are normalised by a series, whose next term is below 4e-12 there.
_SMALL_RATE = 1e-2

#: Changes logits, shape (M, V), of the labelled positions with the given numbers among them, shape (M,).
Restriction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

#: The sum of the losses of some labelled positions: of their logits, shape (M, V), and their numbers, shape (M,).
Measure = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def masked_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, *, weights: Sequence[float] | None = None
) -> torch.Tensor:
    """Average the cross-entropy over the labelled positions.

    Parameters
    ----------
    logits
        Unnormalised scores, shape (..., V).
    labels
        Target classes, -100 where there is none, shape (...).
    weights
        What the loss of each class is multiplied by, V of them; ``None`` is 1 each. The mean is still over the number
        of positions, so that means of parts add up to that of the whole by these numbers.

    Returns
    -------
    Scalar in nats, at least in single precision. Without labelled positions it is 0, with gradients of 0.
    """
    return _summed(logits.flatten(0, -2), labels.flatten(), weights) / (labels != IGNORE_INDEX).sum().clamp(min=1)


def gathered_cross_entropy(
    hidden_states: torch.Tensor,
    labels: torch.Tensor,
    head: Callable[[torch.Tensor], torch.Tensor],
    *,
    restrict: Restriction | None = None,
    measure: Measure | None = None,
) -> torch.Tensor:
    """Average the cross-entropy over the labelled positions, with scores computed at these positions only.

    The same as ``masked_cross_entropy(head(hidden_states), labels)`` in less time and memory: with 15 % of the
    positions labelled, 15 % of the logits exist. Where even these are many, they are made part by part: by
    ``torch.nn.functional.linear_cross_entropy`` where torch has it and the last layer is a bare one (in single
    precision: it takes no part in autocast), else by calling the head on some rows at a time, and once more on the
    way back.

    Parameters
    ----------
    hidden_states
        Hidden states, shape (B, S, H).
    labels
        Target classes, -100 where there is none, shape (B, S).
    head
        From hidden states, shape (M, H), to logits, shape (M, V). An adapter inside it takes part. Its
        ``num_classes`` tells how many rows are scored at once.
    restrict
        Changes logits, shape (M, V), of the labelled positions with these numbers among them, shape (M,).
    measure
        Sums the losses of the labelled positions with these numbers, from their logits as ``restrict`` leaves them.
        ``None`` is the cross-entropy with the label.

    Returns
    -------
    Scalar in nats, at least in single precision. Without labelled positions it is 0, with gradients of 0.
    """
    is_target = labels != IGNORE_INDEX
    rows, targets = hidden_states[is_target], labels[is_target]
    numbers = torch.arange(len(targets), device=targets.device)

    def part(rows: torch.Tensor, targets: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        logits = head(rows) if restrict is None else restrict(head(rows), numbers)
        return _summed(logits, targets) if measure is None else measure(logits, numbers)

    size = max(1, _LOGITS_AT_ONCE // getattr(head, "num_classes", 1))
    if len(targets) <= size:
        return part(rows, targets, numbers) / max(1, len(targets))
    is_plain = restrict is None and measure is None and not torch.is_autocast_enabled(rows.device.type)
    if is_plain and _has_bare_decoder(head):
        return _fused(rows, targets, head) / len(targets)
    parts = zip(rows.split(size), targets.split(size), numbers.split(size), strict=True)
    sums = [checkpoint(part, *each, use_reentrant=False) for each in parts]
    return torch.stack(sums).sum() / len(targets)


def masked_squared_error(predictions: torch.Tensor, targets: torch.Tensor, is_target: torch.Tensor) -> torch.Tensor:
    """Average the squared error over some positions.

    Parameters
    ----------
    predictions, targets
        Values, shape (B, S). What stands at other positions has no effect.
    is_target
        The positions, shape (B, S), bool.

    Returns
    -------
    Scalar, at least in single precision. Without positions it is 0, with gradients of 0.
    """
    found = predictions[is_target]
    found = found.to(torch.promote_types(found.dtype, torch.float32))
    total = (found - targets[is_target].to(found.dtype)).square().sum()
    return total / is_target.sum().clamp(min=1)


def zero_truncated_poisson_loss(log_rates: torch.Tensor, counts: torch.Tensor, is_target: torch.Tensor) -> torch.Tensor:
    """Average the negative log-likelihood of counts above zero over some positions.

    A Poisson distribution of rate mu, given that it is not 0: -log p(c) = log(exp(mu) - 1) - c log mu + log c!, where
    log(exp(mu) - 1) = mu + log(1 - exp(-mu)). The rate comes as its logarithm, so that no rate is too small.

    Parameters
    ----------
    log_rates
        Logarithm of the rate mu before truncation, shape (B, S). What stands at other positions has no effect.
    counts
        Counts, whole numbers of 1 or more, shape (B, S).
    is_target
        The positions, shape (B, S), bool.

    Returns
    -------
    Scalar in nats, at least in single precision. Without positions it is 0, with gradients of 0.

    Raises
    ------
    DataError
        If a target is no count above zero; checked where it costs nothing, i.e. on the CPU.
    """
    found, targets = log_rates[is_target], counts[is_target]
    _check_counts(targets)
    found = found.to(torch.promote_types(found.dtype, torch.float32))
    targets = targets.to(found.dtype)
    rates = found.exp()
    is_small = rates < _SMALL_RATE
    large = rates.clamp(min=_SMALL_RATE)
    # log(1 - exp(-mu)) + mu; of small mu by its series, since mu itself may be too small for a float.
    by_series = found + rates / 2 + rates.square() / 24
    normaliser = torch.where(is_small, by_series, large + torch.log(-torch.expm1(-large)))
    total = (normaliser - targets * found + torch.lgamma(targets + 1)).sum()
    return total / is_target.sum().clamp(min=1)


def log_shares(scores: torch.Tensor, is_target: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return logarithms of rates that share out all counts of a cell among its targets, by a softmax of their scores.

    Parameters
    ----------
    scores
        Scores of the targets, row by row, shape (M,).
    is_target
        The M positions, shape (B, S), bool.
    counts
        Counts, shape (B, S). What stands at other positions has no effect.

    Returns
    -------
    Shape (B, S), float32; 0 at other positions.
    """
    lowest = torch.finfo(torch.float32).min  # finite, so that rows without targets have gradients of 0
    every = torch.full(is_target.shape, lowest, device=scores.device).masked_scatter(is_target, scores.float())
    totals = counts.float().masked_fill(~is_target, 0.0).sum(dim=1, keepdim=True).clamp(min=1.0)
    return (every.log_softmax(dim=1) + totals.log()).masked_fill(~is_target, 0.0)


def _check_counts(targets: torch.Tensor) -> None:
    if targets.device.type != "cpu" or torch.compiler.is_compiling():
        return
    is_wrong = ~(targets >= 1) | (targets != targets.round())
    if is_wrong.any():
        msg = (
            f"a target is {float(targets[is_wrong][0]):g}, but a zero-truncated Poisson loss takes counts of 1, 2, "
            "...; ask for expressed genes only, with tokenizer.value_transform 'counts'."
        )
        raise DataError(msg)


def _summed(rows: torch.Tensor, labels: torch.Tensor, weights: Sequence[float] | None = None) -> torch.Tensor:
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    of_classes = None if weights is None else rows.new_tensor(weights)
    return F.cross_entropy(rows, labels, weight=of_classes, ignore_index=IGNORE_INDEX, reduction="sum")


def _has_bare_decoder(head: Callable[[torch.Tensor], torch.Tensor]) -> TypeGuard[ClassificationHead]:
    """Tell whether torch may read the weights of the last layer: nothing was put into its place or around it."""
    if not hasattr(F, "linear_cross_entropy") or not isinstance(head, ClassificationHead):
        return False
    has_hooks = any(module._forward_hooks or module._forward_pre_hooks for module in (head, head.decoder))
    return type(head.decoder) in (nn.Linear, TiedLinear) and not has_hooks


def _fused(rows: torch.Tensor, targets: torch.Tensor, head: ClassificationHead) -> torch.Tensor:
    return F.linear_cross_entropy(
        head.features(rows),
        head.decoder.weight,
        targets,
        linear_bias=head.decoder.bias,
        reduction="sum",
        options=nn.LinearCrossEntropyOptions(),
    )
