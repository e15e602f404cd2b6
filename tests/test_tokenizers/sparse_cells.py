"""Cells with many genes, of values of several kinds."""

from __future__ import annotations

import numpy as np

from scmodelforge.data.types import CellBlock, Panel

NUM_GENES = 900


def block_of(rows: list[tuple[np.ndarray, np.ndarray]]) -> CellBlock:
    """Return cells of (columns, values)."""
    indptr = np.cumsum([0, *(len(columns) for columns, _ in rows)]).astype(np.int64)
    columns, values = (np.concatenate([np.zeros(0), *parts]) for parts in zip(*rows, strict=True))
    panel = Panel(np.array([f"g{n}" for n in range(NUM_GENES)], dtype=object), "cells")
    return CellBlock(values.astype(np.float32), columns.astype(np.int32), indptr, panel, np.arange(len(rows)))


def cells(kind: str, num_cells: int = 30, seed: int = 0) -> CellBlock:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.4, 3.0, NUM_GENES), (num_cells, NUM_GENES)).astype(np.float64)
    counts[[3, num_cells - 1]] = 0
    if kind == "log1p":
        counts = np.log1p(counts / np.maximum(1, counts.sum(axis=1, keepdims=True)) * 1e4)
    elif kind == "continuous":
        counts = np.where(counts > 0, rng.gamma(2.0, 3.0, counts.shape), 0)
    elif kind == "large":
        counts = np.floor(counts * rng.pareto(0.5, counts.shape))
    return block_of([(np.flatnonzero(row), row[row > 0]) for row in counts])
