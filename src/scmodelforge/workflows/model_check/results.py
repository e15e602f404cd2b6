"""What a check is and how it ends: it returns, or says what is wrong, or why it was not run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NoReturn

import torch

if TYPE_CHECKING:
    from scmodelforge.workflows.model_check.subject import Subject

__all__ = ["Check", "CheckResult", "Failed", "NotClaimed", "difference", "fail", "skip"]


@dataclass(frozen=True)
class CheckResult:
    """How one check ended.

    Attributes
    ----------
    name
        What is checked.
    status
        ``not claimed`` is a check that was not run, or that has nothing to look at in this model.
    message
        For a failure what was seen, what is needed and what to do; for a check that is not claimed why.
    """

    name: str
    status: Literal["passed", "failed", "not claimed"]
    message: str = ""


@dataclass(frozen=True)
class Check:
    """A name and a function that raises :class:`Failed` or :class:`NotClaimed`, or returns."""

    name: str
    run: Callable[[Subject], None]


class Failed(Exception):  # noqa: N818 - how a check ends
    """What was seen, what is needed and what to do."""


class NotClaimed(Exception):  # noqa: N818 - how a check ends
    """Why there is nothing to check."""


def fail(message: str) -> NoReturn:
    """End a check as failed."""
    raise Failed(message)


def skip(reason: str) -> NoReturn:
    """End a check as not claimed."""
    raise NotClaimed(reason)


def difference(one: torch.Tensor | None, other: torch.Tensor | None) -> float:
    """Return the largest difference of two tensors, in units of the first's largest value if that exceeds 1.

    Infinite where the shapes differ or only one is there or finite; equal infinities do not differ.
    """
    if one is None or other is None:
        return 0.0 if one is other else float("inf")
    if one.shape != other.shape:
        return float("inf")
    if one.numel() == 0:
        return 0.0
    one, other = one.detach().double(), other.detach().double()
    is_same = (one == other) | (one.isnan() & other.isnan())
    delta = (one - other).abs().masked_fill(is_same, 0.0).nan_to_num(nan=float("inf"), posinf=float("inf"))
    scale = one.masked_fill(~one.isfinite(), 0.0).abs().max().clamp(min=1.0)
    return float(delta.max() / scale)
