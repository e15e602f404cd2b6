"""Embeddings that need no training of a model: variable genes, principal components of the counts, and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from scmodelforge._errors import DataError
from scmodelforge.data._variability import standardised_dispersion
from scmodelforge.data.draws import mix, uniforms
from scmodelforge.data.types import CellBlock, Panel, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.eval.biology import sklearn_seed

__all__ = ["NUM_VARIABLE", "CountMatrix", "hvg_embedding", "pca_embedding", "random_embedding", "variable_genes"]

#: Genes of the baseline of variable genes.
NUM_VARIABLE = 2000

_TARGET_SUM = 10_000.0


class CountMatrix:
    """Collects the counts of cells over the genes of a vocabulary. It takes a tokenizer's place in a loader.

    Parameters
    ----------
    vocab
        Column j of the matrix is its gene j.
    """

    def __init__(self, vocab: GeneVocab) -> None:
        self._vocab = vocab

    def bind(self, panel: Panel) -> _BoundCounts:
        """Return an encoder for blocks of this panel."""
        tokens = self._vocab.map(panel.gene_ids)
        return _BoundCounts(np.where(tokens < 0, -1, self._vocab.gene_numbers[tokens]).astype(np.int32))

    def stack(self, blocks: Sequence[TokenBlock]) -> sp.csr_matrix:
        """Return the cells of all blocks, in order, as CSR (n, G), float32. Columns of the same gene are summed."""
        cells = TokenBlock.concatenate(blocks)
        shape = (len(cells), len(self._vocab.genes))
        counts = sp.csr_matrix((cells.values, cells.ids.astype(np.int64), cells.offsets), shape=shape)
        counts.sum_duplicates()
        return counts


@dataclass(frozen=True)
class _BoundCounts:
    columns: np.ndarray

    def encode(self, block: CellBlock, keys: np.ndarray) -> TokenBlock:
        """Return the values of the known genes of each cell, with the gene's column in place of a token id."""
        columns = self.columns[block.indices]
        is_known = columns >= 0
        offsets = np.concatenate([[0], np.cumsum(is_known)])[block.indptr].astype(np.int64)
        return TokenBlock(offsets, columns[is_known], block.data[is_known], block.positions, keys)


def pca_embedding(counts: sp.csr_matrix, *, num_train: int, n_components: int = 50, seed: int = 0) -> np.ndarray:
    """Return principal components of log(1 + counts per ten thousand), fitted on the training cells only.

    The matrix stays sparse: centring is implicit (truncated SVD by Lanczos iterations).

    Parameters
    ----------
    counts
        Counts, or counts divided by each cell's total; not logged. CSR (n, G), training cells first.
    num_train
        How many rows are training cells.
    n_components
        Components; fewer where there are fewer cells or genes.
    seed
        Seed of the iterations' start.

    Returns
    -------
    Shape (n, components), float32.

    Raises
    ------
    DataError
        If there are fewer than two training cells or genes, or the training cells do not differ.
    """
    logged = _log_normalized(counts)
    train = logged[:num_train]
    components = min(n_components, min(train.shape) - 1)
    if components < 1:
        msg = f"PCA of {train.shape[0]:,} training cells and {train.shape[1]:,} genes is not possible; two are needed."
        raise DataError(msg)
    if (train - train[:1][np.zeros(train.shape[0], dtype=np.int64)]).count_nonzero() == 0:
        msg = f"all {train.shape[0]:,} training cells have the same expression; PCA needs cells that differ."
        raise DataError(msg)
    from sklearn.decomposition import PCA

    pca = PCA(components, svd_solver="arpack", random_state=sklearn_seed(seed, "pca")).fit(train)
    return np.asarray(pca.transform(logged), dtype=np.float32)


def hvg_embedding(counts: sp.csr_matrix, *, num_train: int, num_genes: int = NUM_VARIABLE) -> np.ndarray:
    """Return log(1 + counts per ten thousand) of the genes that vary most over the training cells.

    Parameters
    ----------
    counts, num_train
        As of :func:`pca_embedding`.
    num_genes
        How many genes; fewer where fewer vary.

    Returns
    -------
    Shape (n, genes), float32.

    Raises
    ------
    DataError
        If no gene varies over the training cells.
    """
    genes = variable_genes(counts[:num_train], num_genes)
    return np.asarray(_log_normalized(counts)[:, genes].todense(), dtype=np.float32)


def variable_genes(counts: sp.csr_matrix, num_genes: int = NUM_VARIABLE) -> np.ndarray:
    """Return the columns of the most variable genes, ascending.

    Genes are ranked by their dispersion among genes of similar mean, as scanpy's ``seurat`` flavour has it (Satija et
    al. 2015, doi:10.1038/nbt.3192); those that vary but that it has no number for come last, ties go by column.

    Parameters
    ----------
    counts
        Counts of the cells to choose by, CSR (n, G).
    num_genes
        How many genes; fewer where fewer vary.

    Raises
    ------
    DataError
        If no gene varies.
    """
    scaled = _per_ten_thousand(counts)
    num_cells = scaled.shape[0]
    mean = np.asarray(scaled.mean(axis=0)).ravel()
    squares = np.asarray(scaled.multiply(scaled).mean(axis=0)).ravel()
    variance = np.maximum(squares - mean**2, 0.0) * num_cells / max(num_cells - 1, 1)
    # A constant gene has a variance of rounding errors.
    varies = variance > 1e-12 * squares
    if not varies.any():
        msg = f"no gene varies over the {num_cells:,} training cells; the baseline of variable genes needs some."
        raise DataError(msg)
    score = np.full(len(mean), -np.inf)
    score[varies] = np.nan_to_num(standardised_dispersion(mean[varies], variance[varies]), nan=-np.inf)
    order = np.lexsort((np.arange(len(mean)), -score, ~varies))
    return np.sort(order[: min(num_genes, int(varies.sum()))])


def random_embedding(positions: np.ndarray, dim: int, *, seed: int = 0) -> np.ndarray:
    """Return standard normal draws that depend on the seed and the cell alone, shape (n, dim), float32.

    Parameters
    ----------
    positions
        Position of each cell in its source, shape (n,).
    dim
        Columns.
    seed
        Seed of the draws.
    """
    keys = mix(seed, "random embedding", np.asarray(positions))[:, None]
    counters = np.arange(dim)[None, :]
    radius = np.sqrt(-2 * np.log1p(-uniforms(keys, "radius", counters)))
    return np.asarray(radius * np.cos(2 * np.pi * uniforms(keys, "angle", counters)), dtype=np.float32)


def _log_normalized(counts: sp.csr_matrix) -> sp.csr_matrix:
    counts = _per_ten_thousand(counts)
    counts.data = np.log1p(counts.data)
    return counts


def _per_ten_thousand(counts: sp.csr_matrix) -> sp.csr_matrix:
    counts = sp.csr_matrix(counts, dtype=np.float64)
    totals = np.asarray(counts.sum(axis=1)).ravel()
    scale = np.divide(_TARGET_SUM, totals, out=np.zeros_like(totals), where=totals > 0)
    return sp.csr_matrix(sp.diags(scale).dot(counts))
