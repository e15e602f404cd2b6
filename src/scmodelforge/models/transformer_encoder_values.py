"""What the transformer encoder learns by where it predicts values."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from scmodelforge._errors import DataError
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models.components.losses import masked_squared_error, zero_truncated_poisson_loss
from scmodelforge.models.protocol import ModelOutput

__all__ = ["with_value_loss"]


def with_value_loss(
    output: ModelOutput,
    predicted: torch.Tensor,
    labels: torch.Tensor,
    targets: torch.Tensor | None,
    *,
    kind: Literal["squared_error", "zero_truncated_poisson"],
) -> ModelOutput:
    """Return an output with its loss, the mean over the labelled positions, 0 if there are none.

    Parameters
    ----------
    output
        The output.
    predicted
        Values, or with ``zero_truncated_poisson`` logarithms of rates, shape (B, S).
    labels
        -100 where nothing is predicted, shape (B, S).
    targets
        True values, shape (B, S).
    kind
        The loss.

    Raises
    ------
    DataError
        If there are no targets.
    """
    if targets is None:
        msg = "labels without targets: a model that predicts values needs them; give the batch of its objective."
        raise DataError(msg)
    measure = masked_squared_error if kind == "squared_error" else zero_truncated_poisson_loss
    loss = measure(predicted, targets, labels != IGNORE_INDEX)
    return replace(output, loss=loss, loss_terms={"masked_value": loss})
