"""The module that Lightning Fabric wraps: a batch goes in, the mean of each loss term comes out.

Only scalars leave it. Fabric refuses a frozen dataclass such as ``ModelOutput`` and would cast its logits to float32.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

__all__ = ["TOTAL", "Objective", "term_counts"]

#: Name of the loss of a model that gives no terms; it counts the targets of all terms.
TOTAL = "loss"


class Objective(nn.Module):
    """A model seen as its loss terms.

    Parameters
    ----------
    model
        A model that answers with a :class:`~scmodelforge.models.protocol.ModelOutput`.

    Attributes
    ----------
    model
        The model, bare.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._options = {"return_logits": False} if _accepts(model, "return_logits") else {}

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the mean of each loss term over its targets in this batch, float32 scalars.

        Parameters
        ----------
        batch
            Tensors for the model, and ``num_targets``, the number of targets of each term. Anything else is for the
            host and does not reach the model.

        Returns
        -------
        The model's ``loss_terms``, or its ``loss`` as ``{"loss": ...}`` where it has none. A term without targets is
        exactly 0 with a graph to all trainable parameters, so that every process takes part in the synchronisation
        of gradients. Without any target the model is not run and ``{"loss": 0}`` returned.

        Raises
        ------
        ValueError
            If the model gives no loss, or a term for which the batch has no number of targets.
        """
        num_targets: dict[str, int] = batch["num_targets"]
        if not any(num_targets.values()):
            return {TOTAL: self._zero()}
        tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
        output = self.model(**tensors, **self._options)
        terms = output.loss_terms
        if not terms:
            if output.loss is None:
                msg = f"{type(self.model).__name__} returned no loss; it needs one whenever the batch has labels"
                raise ValueError(msg)
            terms = {TOTAL: output.loss}
        counts = term_counts(num_targets)
        self._check_counted(terms, counts)
        # A model's mean over no targets may be NaN, and 0 * NaN is NaN.
        return {name: mean.float() if counts[name] else self._zero() for name, mean in terms.items()}

    def _check_counted(self, terms: dict[str, torch.Tensor], counts: dict[str, int]) -> None:
        unknown = sorted(set(terms) - set(counts))
        if unknown:
            msg = (
                f"{type(self.model).__name__} gives the loss term '{unknown[0]}', but the batch counts the targets of "
                f"{sorted(set(counts) - {TOTAL})} only; the objective's num_targets must name every term"
            )
            raise ValueError(msg)

    def _zero(self) -> torch.Tensor:
        """Return 0 with a graph to all trainable parameters, also where their values are not finite."""
        nothing = [p.reshape(-1)[:0].sum() for p in self.parameters() if p.requires_grad]
        return torch.stack(nothing).sum().float() if nothing else torch.zeros(())


def term_counts(num_targets: dict[str, int]) -> dict[str, int]:
    """Return the number of targets of each term, and of all terms together under ``"loss"``."""
    return {TOTAL: sum(num_targets.values()), **num_targets}


def _accepts(model: nn.Module, name: str) -> bool:
    parameters = inspect.signature(model.forward).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
