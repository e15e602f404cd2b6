"""The head that integrates batches: what is learned beside the embedding so that the embedding changes.

Three terms, each read from the embedding of a cell alone:

``adversary``
    A classifier tells the batch from the embedding, and its gradient is reversed on the way to the model, which so
    learns to hide the batch (Ganin and Lempitsky 2015, arXiv:1409.7495).
``contrast``
    A cell shall lie near itself with some of its genes, and near its likes in other batches
    (:func:`~scmodelforge.models.components.integration_losses.matched_contrast`).
``reconstruction``
    Which share each gene has of a cell is told from its embedding and, as in scVI (Lopez et al. 2018,
    doi:10.1038/s41592-018-0229-2), from its batch. So the embedding keeps what the cell is, and needs not keep what the
    batch did to each gene.

Nothing of it is there when cells are embedded: the embedding is that of the backbone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from scmodelforge.config.head import HeadConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models._utils import init_weights
from scmodelforge.models.components.cell_losses import reverse_gradient
from scmodelforge.models.components.integration_losses import (
    expression_shares,
    matched_contrast,
    mutual_neighbours,
    pair_of_labels,
    share_divergence,
)
from scmodelforge.models.components.losses import masked_cross_entropy
from scmodelforge.models.fine_tuned_config import FineTunedConfig
from scmodelforge.models.fine_tuned_heads import Seen, register_head
from scmodelforge.objectives.two_views import SECOND

__all__ = ["BatchIntegrationHead", "BatchIntegrationHeadConfig"]

#: Steepness of the warm-up, as Ganin and Lempitsky have it.
_STEEPNESS = 10.0
#: Nearest cells of each other batch among which a mutual neighbour must be.
_NEIGHBOURS = 3


class BatchIntegrationHeadConfig(HeadConfig):
    """Settings of a head that takes batches out of the embedding."""

    objective: ClassVar[str] = "two_views"
    sizes: ClassVar[tuple[str, ...]] = ("num_batches",)

    kind: Literal["batch_integration"] = "batch_integration"
    """What the head is for. Its other settings are those of this kind."""
    adversary_weight: float = Field(1.0, ge=0)
    """Weight of the reversed gradient. With 0 the classifier only watches, and the model learns nothing from it."""
    warmup_steps: int = Field(100, ge=0)
    """Steps in which this weight rises from 0 to the whole."""
    contrast_weight: float = Field(0.1, ge=0)
    """Weight of the contrast; 0 is without."""
    positives: Literal["views", "mutual_neighbours", "labels"] = "mutual_neighbours"
    """What a cell shall lie near to beside itself: nothing, its mutual nearest neighbours of other batches by
    expression, or the cells with its label in ``data.label_column``."""
    kept_share: float = Field(0.7, gt=0, le=1)
    """Share of the genes in the second view of a cell; with 1 the views differ in dropout alone."""
    temperature: float = Field(0.1, gt=0)
    """Divides the cosines of the contrast."""
    reconstruction_weight: float = Field(1.0, ge=0)
    """Weight of the reconstruction; 0 is without."""

    @property
    def kept_genes(self) -> float | None:
        """Share of the genes in the second view, ``None`` where there is none."""
        return self.kept_share if self.contrast_weight else None

    @property
    def counted_terms(self) -> dict[str, str]:
        """What each term is a mean over."""
        found = {"adversary": "batch_labels"}
        if self.contrast_weight:
            found["contrast"] = "cell_types" if self.positives == "labels" else "cells"
        if self.reconstruction_weight:
            found["reconstruction"] = "cells"
        return found

    @model_validator(mode="after")
    def _something_integrates(self) -> BatchIntegrationHeadConfig:
        if not (self.adversary_weight or self.contrast_weight or self.reconstruction_weight):
            msg = "adversary_weight, contrast_weight and reconstruction_weight are all 0, so nothing would be learned"
            raise ValueError(msg)
        return self


@register_head("batch_integration")
class BatchIntegrationHead(nn.Module):
    """Scores of batches, and the terms that integrate.

    What is new begins without knowing one batch from another (zeros), so that numbering the batches otherwise changes
    nothing.

    Parameters
    ----------
    config
        Settings of the model around it, with ``num_batches`` set.
    width
        Width of embeddings.
    dropout
        Dropout of the classifier of batches.
    """

    config_class: ClassVar[type[HeadConfig]] = BatchIntegrationHeadConfig
    labels: ClassVar[tuple[str, ...]] = (
        "batch_labels",
        "cell_types",
        *(SECOND + name for name in ("input_ids", "attention_mask", "values", "gene_ids", "bin_ids")),
    )
    # A low `adversary` says that batches can be told, and the contrast depends on which cells are together.
    terms_apart: ClassVar[frozenset[str]] = frozenset({"adversary", "contrast"})

    def __init__(self, config: FineTunedConfig, *, width: int, dropout: float) -> None:
        super().__init__()
        own = config.head
        assert isinstance(own, BatchIntegrationHeadConfig)
        assert config.num_batches is not None
        assert config.vocab_size is not None
        self.own, self.vocab_size = own, config.vocab_size
        self._step: int | None = None
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.hidden = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(), nn.Dropout(dropout))
        self.classifier = nn.Linear(width, config.num_batches)
        self.decoder = nn.Linear(width, config.vocab_size) if own.reconstruction_weight else None
        self.apply(init_weights)
        nn.init.zeros_(self.classifier.weight)
        self.batch_shift: nn.Parameter | None = None
        if self.decoder is not None:
            self.batch_shift = nn.Parameter(torch.zeros(config.num_batches, config.vocab_size))

    def set_step(self, step: int) -> None:
        """Take the number of optimiser steps done, which the warm-up follows."""
        self._step = step

    def forward(self, seen: Seen) -> torch.Tensor:
        """Return unnormalised logits of the batches, shape (B, C)."""
        return self._told(seen.cells)

    def loss_terms(
        self, scores: torch.Tensor, labels: Mapping[str, torch.Tensor], seen: Seen
    ) -> dict[str, torch.Tensor]:
        """Return the terms; those of other weights than the adversary's are weighted.

        ``adversary`` is the mean cross-entropy of the batch in nats. Its weight is that of the gradient the model
        gets; the classifier learns as fast with any.
        """
        batches, own = labels["batch_labels"], self.own
        hidden = _reversed(seen.cells, own.adversary_weight * self.reversal())
        found = {"adversary": masked_cross_entropy(self._told(hidden), batches)}
        if own.contrast_weight:
            found["contrast"] = own.contrast_weight * self._contrast(labels, seen)
        if self.decoder is not None:
            found["reconstruction"] = own.reconstruction_weight * self._reconstruction(batches, seen)
        return found

    def reversal(self) -> float:
        """Return which share of its weight the reversed gradient has at this step: 2 / (1 + exp(-10 p)) - 1."""
        if self._step is None or self._step >= self.own.warmup_steps:
            return 1.0
        return 2.0 / (1.0 + math.exp(-_STEEPNESS * self._step / self.own.warmup_steps)) - 1.0

    def _told(self, cells: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.hidden(self.norm(cells)))

    def _contrast(self, labels: Mapping[str, torch.Tensor], seen: Seen) -> torch.Tensor:
        second = {name.removeprefix(SECOND): value for name, value in labels.items() if name.startswith(SECOND)}
        encode: Any = seen.backbone.encode
        cells, others, batches = self.norm(seen.cells), self.norm(encode(**second)), labels["batch_labels"]
        is_match = torch.zeros(len(cells), len(cells), dtype=torch.bool, device=cells.device)
        if self.own.positives == "labels":
            is_known = labels["cell_types"] != IGNORE_INDEX
            cells, others, batches = cells[is_known], others[is_known], batches[is_known]
            is_match = pair_of_labels(labels["cell_types"][is_known])
        elif self.own.positives == "mutual_neighbours":
            is_match = mutual_neighbours(self._shares(seen.batch).sqrt(), batches, _NEIGHBOURS)
        return matched_contrast(cells, others, is_match=is_match, batches=batches, temperature=self.own.temperature)

    def _reconstruction(self, batches: torch.Tensor, seen: Seen) -> torch.Tensor:
        """Return how far the predicted shares of genes are from the true ones; one of no known batch gets the mean."""
        assert self.decoder is not None
        assert self.batch_shift is not None
        is_known = (batches != IGNORE_INDEX)[:, None]
        shift = torch.where(is_known, self.batch_shift[batches.clamp(min=0)], self.batch_shift.mean(dim=0))
        return share_divergence(self.decoder(self.norm(seen.cells)) + shift, self._shares(seen.batch))

    def _shares(self, batch: Mapping[str, Any]) -> torch.Tensor:
        return expression_shares(batch["input_ids"], batch.get("values"), self.vocab_size)


def _reversed(values: torch.Tensor, weight: float) -> torch.Tensor:
    """Return the values unchanged; on the way back their gradient is multiplied by ``-weight``."""
    return reverse_gradient(values) * weight + values.detach() * (1.0 - weight)
