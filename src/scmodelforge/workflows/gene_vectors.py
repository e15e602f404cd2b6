"""Vectors of genes of a model, with the counts of training cells beside them, for benchmarks of genes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import DataConfig
from scmodelforge.data.draws import mix
from scmodelforge.eval.genes.vectors import GeneVectors, random_vectors
from scmodelforge.eval.insilico import GeneModel
from scmodelforge.workflows.gene_model import TokenModel
from scmodelforge.workflows.prepare import PreparedData
from scmodelforge.workflows.read_cells import read_counts

__all__ = ["GeneInputs", "gene_inputs", "noise_vectors"]


@dataclass(frozen=True, slots=True)
class GeneInputs:
    """What benchmarks of genes get: ``BenchmarkInputs.gene_embeddings`` and ``BenchmarkInputs.model``.

    Attributes
    ----------
    vectors
        Vectors of genes by their kind; ``None`` if no benchmark needs any.
    model
        The model with the training cells; ``None`` if no benchmark needs it.
    """

    vectors: dict[str, GeneVectors] | None
    model: GeneModel | None


def gene_inputs(
    model: nn.Module,
    data: PreparedData,
    config: DataConfig,
    *,
    benchmarks: Sequence[Any],
    positions: np.ndarray,
    batch_size: int,
    device: torch.device,
    autocast: Callable[[], Any] = nullcontext,
    seed: int = 0,
    counts: sp.csr_matrix | None = None,
) -> GeneInputs:
    """Return what some benchmarks need of a model's genes; nothing is computed that none needs.

    Parameters
    ----------
    model, device, autocast
        The model, where it is, and what makes the context of a pass.
    data, config
        The cells, prepared for the model, and how they are read.
    benchmarks
        The benchmarks: their ``needs`` and ``config`` say what is computed.
    positions
        Training cells: their counts are the baselines', their hidden states the contextual vectors.
    batch_size
        Cells of a pass.
    seed
        Seed of the order in which cells are drawn for attention and perturbations.
    counts
        Counts of the cells over the vocabulary's genes, if they are known: CSR (n, number of genes), cells ascending.

    Raises
    ------
    ConfigError
        If the model has no table of genes, or no hidden state for each token, and a benchmark needs it.
    DataError
        If no gene of the vocabulary is measured.
    """
    kinds = sorted({each.config.vectors for each in benchmarks if "gene_embeddings" in each.needs})
    positions = np.sort(positions)
    drawn = positions[np.argsort(mix(seed, "cells of genes", positions), kind="stable")]
    whole = TokenModel(model, data, config, drawn, batch_size, device, autocast, seed)
    vectors = None
    if kinds:
        genes = _measured(data)
        known = read_counts(data, config, positions) if counts is None else counts
        vectors = {kind: _vectors(kind, whole, genes, known[:, genes]) for kind in kinds}
    return GeneInputs(vectors, whole if any("model" in each.needs for each in benchmarks) else None)


def noise_vectors(data: PreparedData, kind: str, width: int, *, seed: int) -> GeneVectors:
    """Return noise for the genes that a model would have vectors of, without their counts.

    Raises
    ------
    DataError
        If no gene of the vocabulary is measured.
    """
    genes, vocab = _measured(data), data.vocab
    names, symbols = tuple(vocab.genes[gene] for gene in genes), tuple(vocab.symbols[gene] for gene in genes)
    own: Literal["input", "contextual"] = "contextual" if kind == "contextual" else "input"
    return GeneVectors(names, random_vectors(names, width, seed=seed), kind=own, symbols=symbols)


def _measured(data: PreparedData) -> np.ndarray:
    """Return the numbers of the vocabulary's genes that a file has."""
    tokens = np.concatenate([data.vocab.map_panel(panel) for panel in data.source.panels])
    genes = np.unique(data.vocab.gene_numbers[tokens[tokens >= 0]])
    if len(genes) == 0:
        msg = "no gene of the model's vocabulary is measured in these data; use data of its genes."
        raise DataError(msg)
    return genes


def _vectors(kind: str, cells: TokenModel, genes: np.ndarray, counts: sp.csr_matrix) -> GeneVectors:
    vocab = cells.data.vocab
    names, symbols = tuple(vocab.genes[gene] for gene in genes), tuple(vocab.symbols[gene] for gene in genes)
    if kind == "input":
        table = _input_table(cells.model, vocab.gene_tokens[genes], cells.device)
        return GeneVectors(names, table, kind="input", counts=counts, symbols=symbols)
    sums, num_cells = (each[genes] for each in _sums_of_states(cells))
    means = (sums / np.maximum(num_cells, 1)[:, None]).astype(np.float32)
    found = GeneVectors(names, means, kind="contextual", counts=counts, symbols=symbols, num_cells=num_cells)
    return found.select(np.flatnonzero(num_cells > 0))


def _input_table(model: nn.Module, tokens: np.ndarray, device: torch.device) -> np.ndarray:
    """Return the embedding of tokens before anything of a cell is added to it."""
    embedding = getattr(model, "embedding", None)
    look_up = getattr(embedding, "genes", None) or getattr(embedding, "gene_embedding", None)
    if look_up is None:
        msg = (
            f"{type(model).__name__} has no table of gene embeddings; "
            "use vectors: contextual, or a model with 'embedding.gene_embedding'."
        )
        raise ConfigError(msg)
    with torch.no_grad():
        rows = look_up(torch.from_numpy(tokens.astype(np.int64)).to(device))
    return np.asarray(rows.float().cpu().numpy())


def _sums_of_states(cells: TokenModel) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of the hidden states of each gene's token over cells, (G, H), and the number of cells, (G,)."""
    numbers, num_genes = cells.data.vocab.gene_numbers, len(cells.genes)
    sums: torch.Tensor | None = None
    num_cells = np.zeros(num_genes, dtype=np.int64)
    for block in cells.cells():
        states = torch.from_numpy(cells.encode(block).tokens).double()  # (T, H)
        found = numbers[block.ids]
        own = torch.from_numpy(found[found >= 0])
        sums = torch.zeros(num_genes, states.shape[1], dtype=torch.float64) if sums is None else sums
        sums.index_add_(0, own, states[torch.from_numpy(found >= 0)])
        num_cells += np.bincount(own.numpy(), minlength=num_genes)
    if sums is None:
        msg = "there are no training cells to take contextual vectors from; use vectors: input."
        raise DataError(msg)
    return sums.numpy(), num_cells
