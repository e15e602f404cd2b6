"""Cells of a source as a model sees them, and as counts, for evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.sparse as sp
from torch import nn

from scmodelforge.config.schema import DataConfig
from scmodelforge.eval.baselines import CountMatrix
from scmodelforge.objectives.collate import collate_for_encoding
from scmodelforge.workflows.prepare import PreparedData, Readable, sequential_loader
from scmodelforge.workflows.team import Team

__all__ = ["embedded_cells", "read_counts"]

_CELLS_AT_A_TIME = 1024


def embedded_cells(
    model: nn.Module,
    data: PreparedData,
    config: DataConfig,
    positions: np.ndarray,
    *,
    team: Team,
    batch_size: int,
    seed: int,
    **where: Any,
) -> np.ndarray:
    """Return what a model's ``encode`` makes of cells, shape (n, H), float32, row i for ``positions[i]``.

    Parameters
    ----------
    model
        The model, or its head.
    data, config
        The cells, prepared for the model, and how they are read.
    positions
        Which ones, in any order.
    team
        The processes that share the work; all of them get all rows.
    batch_size
        Cells of a pass.
    seed
        Seed of what a tokenizer draws.
    **where
        ``device`` and ``autocast``, as of :func:`~scmodelforge.eval.embed.embed_cells`.
    """

    @contextmanager
    def batches_of(chosen: np.ndarray) -> Iterator[Iterable[Any]]:
        with sequential_loader(
            data,
            chosen,
            collate=lambda tokens: collate_for_encoding(tokens, pad_id=data.vocab.pad_id),
            config=config,
            batch_size=batch_size,
            seed=seed,
        ) as loader:
            yield (batch for group in loader.one_pass() for batch in group)

    ascending = np.sort(positions)
    rows = team.embed(model, batches_of, positions=ascending, batch_size=batch_size, **where)
    return rows[np.searchsorted(ascending, positions)]


def read_counts(data: PreparedData, config: DataConfig, positions: np.ndarray) -> sp.csr_matrix:
    """Return the counts of cells over the vocabulary's genes, CSR (n, number of genes), row i for ``positions[i]``."""
    matrix = CountMatrix(data.vocab)
    order = np.argsort(positions)
    with sequential_loader(
        Readable(data.source, matrix, lambda block: block),
        positions[order],
        collate=lambda tokens: tokens,
        config=config,
        batch_size=_CELLS_AT_A_TIME,
        seed=0,
    ) as loader:
        blocks = [block for group in loader.one_pass() for block in group]
    return matrix.stack(blocks)[np.argsort(order)]
