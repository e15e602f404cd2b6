"""Cells as a trained model takes them, and what it gives for them: the one way that embeds and labels cells.

What a model gives for a cell depends on the cell alone: not on its place, nor on the cells beside it. Random draws of
its tokenizer are made from the cell's expression, and a batch is computed cell by cell where kernels would otherwise
do other cells another way (:func:`~scmodelforge.eval.embed.steady_batch`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge import __version__
from scmodelforge._errors import DataError
from scmodelforge._wording import worded
from scmodelforge.config.schema import DataConfig
from scmodelforge.data.coverage import Coverage, no_overlap, repeated_ids
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.scan import ScanReport, scan
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.eval.embed import embed_batches, steady_batch
from scmodelforge.hub.bundle import Bundle
from scmodelforge.workflows._content_keys import KeysFromContent
from scmodelforge.workflows.prepare import Readable, open_source, sequential_loader

__all__ = ["COMMAND", "PYTHON", "ReadyCells", "given", "open_cells", "placed", "provenance", "ready_cells"]

_log = logging.getLogger(__name__)

_COMMON = {"leave it out of data.paths": "at least one is needed"}
#: What messages call settings where they are arguments of a function, or options of a command.
PYTHON = {**_COMMON, "data.layer": "layer", "data.gene_id_column": "gene_id_column"}
PYTHON |= {f"predict.{name}": name for name in ("dose", "min_confidence", "unknown")}
COMMAND = {**_COMMON, "data.layer": "--layer", "data.gene_id_column": "--gene-id-column"}
COMMAND |= {f"predict.{name}": f"--{name.replace('_', '-')}" for name in ("dose", "min_confidence", "unknown")}


@dataclass(frozen=True)
class ReadyCells:
    """Cells that a model can embed.

    Attributes
    ----------
    source
        Where the cells are.
    coverage
        The genes the model knows.
    report
        The number of cells, and those without any of these genes.
    """

    source: Any
    coverage: Coverage
    report: ScanReport

    @property
    def positions(self) -> np.ndarray:
        """The cells that can be embedded, ascending."""
        return np.setdiff1d(np.arange(self.report.num_cells), self.report.empty)


def open_cells(data: Path, *, layer: str | None, gene_id_column: str | None) -> CellSource:
    """Open a file; the caller closes the source.

    Raises
    ------
    DataError
        If it is no file, or cannot be read.
    """
    if data.is_dir():
        msg = f"{data} is a folder, and a copy of an .h5ad file is written; write the store as one with anndata."
        raise DataError(msg)
    return open_source(LocalDataConfig(paths=[str(data)], layer=layer, gene_id_column=gene_id_column))


def ready_cells(bundle: Bundle, source: CellSource, *, names: Mapping[str, str] = COMMAND) -> ReadyCells:
    """Check that a model can embed the cells of a source, which has one panel.

    Where no column with gene ids was named, those ids are read that the model has most genes of; the log says which.

    Parameters
    ----------
    bundle
        The model.
    source
        The cells.
    names
        What the log calls settings.

    Raises
    ------
    DataError
        If the cells have values a model cannot take, or none of the model's genes.
    """
    if hasattr(source, "choose_gene_ids"):
        source.choose_gene_ids(bundle.vocab)
    panel = source.panels[0]
    for line in getattr(source, "describe", list)():
        _log.info(worded(line, names))
    coverage = bundle.vocab.coverage(panel)
    if not coverage.known:
        raise DataError(no_overlap(panel, coverage, bundle.vocab))
    report = scan(source, bundle.vocab, expects=bundle.tokenizer.expects)
    _require_linear(bundle, source)
    for line in filter(None, [coverage.warning, repeated_ids(panel), *report.warnings]):
        _log.warning(worded(line, names))
    if len(report.empty) and not report.warnings:
        _log.warning(f"{len(report.empty):,} of {report.num_cells:,} cells have no gene that the model knows")
    return ReadyCells(source, coverage, report)


def given(
    bundle: Bundle, cells: ReadyCells, positions: np.ndarray, *, batch_size: int, head: nn.Module | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions, shape (B,), and what a model gives for these cells, shape (B, H), in order of position.

    Parameters
    ----------
    bundle
        The model.
    cells
        What :func:`ready_cells` returned for it.
    positions
        The cells wanted, ascending, of :attr:`ReadyCells.positions`.
    batch_size
        Cells in a forward pass.
    head
        Has an ``encode`` that takes the place of the model's; ``None`` gives embeddings.

    Raises
    ------
    DataError
        If the model gives NaN or infinite numbers.
    """
    if not len(positions):  # all was done before
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = KeysFromContent(bundle.tokenizer, bundle.vocab)
    with (
        placed(bundle.model if head is None else head, device) as module,
        sequential_loader(
            Readable(cells.source, encoder, bundle.preprocessor.fitted(cells.source)),
            positions,
            collate=partial(steady_batch, pad_id=bundle.vocab.pad_id, device=device),
            config=DataConfig(),
            batch_size=batch_size,
            seed=0,
        ) as loader,
    ):
        batches = (batch for group in loader.one_pass() for batch in group)
        yield from embed_batches(module, batches, device=device)


def provenance(bundle: Bundle, cells: ReadyCells) -> dict[str, str | int]:
    """Return where numbers come from, in values that a file can hold.

    ``model`` is where the model was loaded from, with the revision of a repository that was fetched; empty for one that
    was made in this process.
    """
    import json

    return {
        "scmodelforge_version": __version__,
        "model": bundle.origin,
        "model_id": bundle.model_id,
        "architecture": bundle.model_config.architecture,
        "genes_known": int(cells.coverage.known),
        "genes_total": int(cells.coverage.total),
        "cells_without_known_genes": len(cells.report.empty),
        "preprocessing": json.dumps(bundle.preprocessor.to_dict()),
    }


@contextmanager
def placed(module: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """Have a module on a device for a while; it may be a user's, who has it elsewhere."""
    before = next((tensor.device for tensor in module.parameters()), device)
    try:
        yield module.to(device)
    finally:
        module.to(before)


def _require_linear(bundle: Bundle, source: CellSource) -> None:
    """Refuse logged values where the model has learned from others, or takes the logarithm itself."""
    config = bundle.preprocessor.config
    kind = source.kind(0) if hasattr(source, "kind") else None
    if kind is None or kind.kind in ("counts", "normalized"):
        return
    if config.normalize or config.log1p:
        why = "the model normalises counts itself"
    elif bundle.fingerprint.get("values") == "linear":
        why = "the model was trained on counts"
    else:
        return
    msg = (
        f"{why}, and the values of {source.panels[0].name} look {kind.kind} ({kind.evidence}); name the matrix that "
        "holds counts in data.layer."
    )
    raise DataError(msg)
