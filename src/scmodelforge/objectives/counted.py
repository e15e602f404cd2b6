"""What a model learns beside its objective: the batch says how many targets each of these loss terms has."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from scmodelforge.config.cell_labels import CELL_LABELS
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.objectives.base import Collator

__all__ = ["Counted"]


class Counted:
    """An objective whose batches count further loss terms and bring labels of cells.

    Parameters
    ----------
    objective
        Makes the batches.
    terms
        Of each further term what it is a mean over: ``targets``, ``cells`` or one of ``labels``.
    labels
        Labels of all cells of the source, each shape (N,), by key; ``IGNORE_INDEX`` where a cell has none.

    Attributes
    ----------
    loss_terms
        Names of all terms.
    """

    def __init__(
        self,
        objective: Collator,
        terms: Mapping[str, str],
        labels: Mapping[str, np.ndarray],
    ) -> None:
        unknown = sorted(set(terms.values()) - {"targets", "cells"} - CELL_LABELS.keys())
        assert not unknown, f"a loss term cannot be a mean over {unknown}"
        self.objective, self.terms, self.labels = objective, dict(terms), dict(labels)
        self.loss_terms = (*objective.loss_terms, *terms)

    def __call__(self, tokens: TokenBlock) -> Batch:
        """Return the batch of some cells.

        Returns
        -------
        The objective's, with labels of shape (B,), int64, and in ``num_targets`` the further terms.
        """
        batch = self.objective(tokens)
        counts = {"targets": len(batch.get("target_index", ())), "cells": len(tokens)}
        for name, codes in self.labels.items():
            own = codes[tokens.cell_index].astype(np.int64)
            batch[name] = torch.from_numpy(own)  # type: ignore[literal-required]
            counts[name] = int((own != IGNORE_INDEX).sum())
        further = {term: counts[of] for term, of in self.terms.items()}
        batch["num_targets"] = {**batch["num_targets"], **further}
        return batch
