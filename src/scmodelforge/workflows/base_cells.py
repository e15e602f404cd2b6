"""The cells that a base model was trained on, in a run that adapts it: looked for, and told of by the new model too."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from scmodelforge.data.cell_sketch import CellIdentities, CellSketch, Shared, common_genes
from scmodelforge.data.joined_sketch import joined
from scmodelforge.data.protocols import CellSource

if TYPE_CHECKING:
    from scmodelforge.hub.bundle import Bundle

__all__ = ["BaseCells"]

_log = logging.getLogger(__name__)


class BaseCells:
    """What a base model says of its training cells.

    Parameters
    ----------
    base
        The base model.
    source
        The cells of the run.

    Attributes
    ----------
    genes
        What identities of the run's own training cells must be made of so that both sets fit into one sketch; ``None``
        if that cannot be.
    visitors
        What must see the cells.
    """

    def __init__(self, base: Bundle, source: CellSource) -> None:
        self._sketch, self._name = base.trained_cells, base.model_id
        self.genes: np.ndarray | None = None
        self.visitors: list[CellIdentities] = []
        if self._sketch is None:
            return
        genes, vocab = self._sketch.genes, base.vocab
        # Of a panel that lacks some, cells have other identities than where all were measured.
        if common_genes(vocab, source.panels)[: len(genes)][genes].all():
            self.genes = genes
        self.visitors = [CellIdentities(vocab, source.panels, sum(source.file_sizes), genes=genes)]

    def held_out(self, positions: np.ndarray) -> Shared | None:
        """Return how many held-out cells the base model was trained on, and warn of them; ``None`` if not known."""
        if self._sketch is None:
            _log.info(f"the base model ({self._name}) does not say which cells it was trained on")
            return None
        found = self.visitors[0]
        shared = self._sketch.shared(found.values[positions], has_genes=found.has_genes)
        if shared.verdict:
            _log.warning(
                f"the base model ({self._name}) was trained on {shared.share:.0%} of the held-out cells "
                f"({shared.found:,} of {shared.checked:,} that were looked for), so scores are of cells that it has "
                "seen, if not their labels; hold out cells that are new to it"
            )
        return shared

    def with_own(self, own: CellSketch) -> CellSketch:
        """Return what the new model says of its training cells: the base model's, and the run's own.

        Where both do not fit into one sketch it tells of the run's own, and that it was trained on others.
        """
        if self._sketch is not None and self.genes is not None:
            return joined(self._sketch, own)
        return replace(own, is_complete=False)
