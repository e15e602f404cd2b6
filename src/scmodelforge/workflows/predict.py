"""Cell types as a trained model names them, in memory or written into a copy of an AnnData file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scmodelforge._errors import ConfigError
from scmodelforge._wording import in_words_of
from scmodelforge.hub.bundle import Bundle
from scmodelforge.hub.load import load_model
from scmodelforge.workflows.copies import check_copy, put_obs, put_uns, write_copy
from scmodelforge.workflows.label_predictions import LabelHead, label_head
from scmodelforge.workflows.progress import Countdown
from scmodelforge.workflows.ready_cells import (
    COMMAND,
    ReadyCells,
    given,
    open_cells,
    provenance,
    ready_cells,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KEY", "Naming", "facts_of_labels", "label_cells", "predict_file"]

#: How names of columns begin.
KEY = "scmodelforge"


@dataclass(frozen=True)
class Naming:
    """When and how a cell is said to be of no known type.

    Attributes
    ----------
    min_confidence
        Cells below are unknown.
    unknown
        What they are called.
    """

    min_confidence: float = 0.0
    unknown: str = "unknown"

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            msg = f"min_confidence is {self.min_confidence}; a probability is needed, from 0 to 1."
            raise ConfigError(msg)
        if not self.unknown:
            msg = "unknown is empty; name what cells of no known type are called."
            raise ConfigError(msg)

    def head(self, bundle: Bundle, origin: str) -> LabelHead:
        """Return what labels cells in a model.

        Raises
        ------
        ConfigError
            If it has learned no cell types, or one of them is called as unknown cells are.
        """
        head = label_head(bundle.model, bundle.model_config, bundle.labels)
        if head is None:
            msg = (
                f"{origin or 'the model'} has learned no cell types ({bundle.model_config.architecture}, trained by "
                f"{bundle.objective}); give one that has, such as scdiva with model.pretraining_task: "
                "cell_type_annotation, or embed the cells and label them by their neighbours."
            )
            raise ConfigError(msg)
        if self.unknown in head.names:
            msg = f"'{self.unknown}' is a cell type of the model; choose another word for unknown cells."
            raise ConfigError(msg)
        return head


def label_cells(
    bundle: Bundle,
    head: LabelHead,
    cells: ReadyCells,
    naming: Naming,
    *,
    batch_size: int,
    advance: Callable[[int], None] = lambda cells: None,
) -> dict[str, Any]:
    """Name the type of each cell.

    Parameters
    ----------
    bundle, head, cells
        The model, what :meth:`Naming.head` returned for it, and the cells.
    naming
        When and how a cell is unknown.
    batch_size
        Cells in a forward pass.
    advance
        Told of cells that are done.

    Returns
    -------
    ``label``, a pandas Categorical of all labels and the word for unknown cells, and ``confidence``, the probability
    of the likeliest label, float32; NaN for cells without a gene the model knows.
    """
    num_cells, num_labels = cells.report.num_cells, len(head.names)
    codes = np.full(num_cells, num_labels, dtype=np.int64)
    confidence = np.full(num_cells, np.nan, dtype=np.float32)
    for rows, probabilities in given(bundle, cells, cells.positions, batch_size=batch_size, head=head):
        best = probabilities.argmax(axis=1)
        confidence[rows] = probabilities[np.arange(len(rows)), best]
        codes[rows] = np.where(confidence[rows] >= naming.min_confidence, best, num_labels)
        advance(len(rows))
    return {"label": _categorical(codes, [*head.names.tolist(), naming.unknown]), "confidence": confidence}


def predict_file(
    data: Path,
    out: Path,
    *,
    model: str | Path,
    naming: Naming,
    batch_size: int,
    layer: str | None = None,
    gene_id_column: str | None = None,
    dictionaries: Path | None = None,
    trust_plugins: bool = False,
    force: bool = False,
) -> list[str]:
    """Write ``obs['scmodelforge_label']`` and ``obs['scmodelforge_confidence']`` into a copy of an .h5ad file.

    Returns
    -------
    Closing lines for the user.
    """
    check_copy(data, out, force=force)
    bundle = load_model(model, dictionaries=dictionaries, trust_plugins=trust_plugins)
    head = naming.head(bundle, str(model))
    with in_words_of(COMMAND):
        source = open_cells(data, layer=layer, gene_id_column=gene_id_column)
        try:
            cells = ready_cells(bundle, source)
            countdown = Countdown("predict", total=len(cells.positions))
            try:
                found = label_cells(bundle, head, cells, naming, batch_size=batch_size, advance=countdown.advance)
            finally:
                countdown.close()
        finally:
            source.close()
    facts = facts_of_labels(bundle, cells, str(model), naming)

    def change(file: Any) -> None:
        put_obs(file, {f"{KEY}_{name}": values for name, values in found.items()})
        put_uns(file, f"{KEY}_label", facts)

    write_copy(data, out, change)
    unknown = int((found["label"] == naming.unknown).sum())
    return [
        f"{cells.coverage.known:,} of {cells.coverage.total:,} genes are in the model's vocabulary; "
        f"{len(cells.report.empty):,} of {cells.report.num_cells:,} cells have none of them",
        f"labels: {out} obs['{KEY}_label'], obs['{KEY}_confidence'] ({len(head.names):,} cell types; {unknown:,} of "
        f"{cells.report.num_cells:,} cells {naming.unknown})",
        f'next: python -c "import anndata; print(anndata.read_h5ad({str(out)!r}).obs.{KEY}_label.value_counts())"',
    ]


def facts_of_labels(bundle: Bundle, cells: ReadyCells, origin: str, naming: Naming) -> dict[str, Any]:
    """Return where labels come from, in values that a file can hold."""
    return {
        **provenance(bundle, cells, origin),
        "min_confidence": float(naming.min_confidence),
        "unknown": naming.unknown,
        "label_column": str(bundle.labels.get("column", "")),
    }


def _categorical(codes: np.ndarray, names: list[str]) -> pd.Categorical:
    import pandas as pd

    return pd.Categorical.from_codes(codes, categories=names)
