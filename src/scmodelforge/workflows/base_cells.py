"""The cells that a base model was trained on, in a run that adapts it: looked for, and told of by the new model too."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scmodelforge._errors import UserError
from scmodelforge._json_files import read_json_object
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
        self._sketch, self._name, self._source = base.trained_cells, base.model_id, source
        self.genes: np.ndarray | None = None
        self.visitors: list[CellIdentities] = []
        if self._sketch is None:
            return
        genes, vocab = self._sketch.genes, base.vocab
        # Of a panel that lacks some, cells have other identities than where all were measured.
        if common_genes(vocab, source.panels)[: len(genes)][genes].all():
            self.genes = genes
        self.visitors = [CellIdentities(vocab, source.panels, sum(source.file_sizes), genes=genes)]

    def held_out(self, positions: np.ndarray, base_model: str) -> Shared | None:
        """Return how many held-out cells the base model was trained on, and warn of them; ``None`` if not known.

        Parameters
        ----------
        positions
            Those cells.
        base_model
            Address of the base model, whose run may have held out others.
        """
        if self._sketch is None:
            _log.info(f"the base model ({self._name}) does not say which cells it was trained on")
        return self._looked_for(positions, "held-out cells", lambda: _remedy(base_model, self._source))

    def scored(self, positions: np.ndarray) -> Shared | None:
        """Return the same of cells that are scored beside these; ``None`` if there are none."""
        remedy = "score those that are new to it"
        return self._looked_for(positions, "cells to be scored", lambda: remedy) if len(positions) else None

    def _looked_for(self, positions: np.ndarray, which: str, remedy: Callable[[], str]) -> Shared | None:
        if self._sketch is None:
            return None
        found = self.visitors[0]
        shared = self._sketch.shared(found.values[positions], has_genes=found.has_genes)
        if shared.verdict:
            _log.warning(
                f"the base model ({self._name}) was trained on {shared.share:.0%} of the {which} "
                f"({shared.found:,} of {shared.checked:,} that were looked for), so scores are of cells that it has "
                f"seen, if not their labels; {remedy()}"
            )
        return shared

    def with_own(self, own: CellSketch) -> CellSketch:
        """Return what the new model says of its training cells: the base model's, and the run's own.

        Where both do not fit into one sketch it tells of the run's own, and that it was trained on others.
        """
        if self._sketch is not None and self.genes is not None:
            return joined(self._sketch, own)
        return replace(own, is_complete=False)


def _remedy(base_model: str, source: CellSource) -> str:
    """Return how to hold out cells that are new to a base model: those that its run held out, if it is a run's."""
    for root in (Path(base_model), Path(base_model).parent):
        if (root / "run.json").is_file() and (root / "splits.json").is_file():
            try:
                found = _of_run(root, source)
            except (UserError, KeyError, TypeError):
                found = None
            if found is not None:
                return f"hold out those that its run held out: --set {shlex.quote(f'data.split={found}')}"
    return "hold out cells that are new to it, or fine-tune on other data: nothing says which of these it has not seen"


def _of_run(root: Path, source: CellSource) -> str | None:
    """Return ``data.split`` with what a run held out; ``None`` where these cells have none of that."""
    facts, split = (read_json_object(root / name, "the split goes without") for name in ("run.json", "splits.json"))
    if not split["validation"]:
        return None
    if [each["sha256"] for each in facts["data"]] == [each["sha256"] for each in source.fingerprint()]:
        return f"{{file: {root / 'splits.json'}}}"
    there = set(source.obs(split["by"])[1]) if split["groups"] else set()
    groups = [name for name in split["groups"] if name in there]
    return f"{{by: {split['by']}, validation_groups: [{', '.join(groups)}]}}" if groups else None
