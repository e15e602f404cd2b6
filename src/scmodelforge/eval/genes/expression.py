"""What expression alone says of genes: levels, correlations, loadings of principal components."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scmodelforge.eval.biology import sklearn_seed

__all__ = ["expression_levels", "gene_loadings", "log_normalized", "pearson"]

_TARGET_SUM = 10_000.0
_BLOCK = 64  # rows of correlations at a time


def log_normalized(counts: sp.csr_matrix) -> sp.csr_matrix:
    """Return log(1 + counts per ten thousand), CSR, float64; cells without counts stay empty."""
    counts = sp.csr_matrix(counts, dtype=np.float64)
    totals = np.asarray(counts.sum(axis=1)).ravel()
    scale = np.divide(_TARGET_SUM, totals, out=np.zeros_like(totals), where=totals > 0)
    logged = sp.diags(scale).dot(counts).tocsr()
    logged.data = np.log1p(logged.data)
    return logged


def expression_levels(counts: sp.csr_matrix) -> np.ndarray:
    """Return mean logged expression and share of cells that express each gene, shape (G, 2), float64."""
    logged = log_normalized(counts)
    logged.eliminate_zeros()
    expressed = np.asarray((logged != 0).mean(axis=0)).ravel()
    return np.stack([np.asarray(logged.mean(axis=0)).ravel(), expressed], axis=1)


def pearson(counts: sp.csr_matrix, rows: np.ndarray) -> np.ndarray:
    """Return the correlation over cells of some genes with all genes, shape (T, G), float64.

    Computed on :func:`log_normalized`, in blocks of rows. Genes that do not vary correlate with none: 0.
    """
    logged = log_normalized(counts).tocsc()
    n = logged.shape[0]
    mean = np.asarray(logged.mean(axis=0)).ravel()
    square = np.asarray(logged.multiply(logged).mean(axis=0)).ravel()
    variance = square - mean**2
    spread = np.sqrt(np.where(variance > 1e-12 * square, variance, np.inf))  # rounding is no variance
    found = np.empty((len(rows), logged.shape[1]))
    for begin in range(0, len(rows), _BLOCK):
        block = rows[begin : begin + _BLOCK]
        together = np.asarray((logged[:, block].T @ logged).todense()) / n
        found[begin : begin + len(block)] = (together - np.outer(mean[block], mean)) / np.outer(spread[block], spread)
    return np.clip(found, -1, 1)


def gene_loadings(counts: sp.csr_matrix, *, n_components: int = 50, seed: int = 0) -> np.ndarray | None:
    """Return each gene's loadings on principal components of :func:`log_normalized`, scaled by these.

    Returns
    -------
    Shape (G, components), float32; ``None`` if there are too few cells or genes, or cells that do not differ.
    """
    logged = log_normalized(counts)
    components = min(n_components, min(logged.shape) - 1)
    if components < 1 or (logged - logged[:1][np.zeros(logged.shape[0], dtype=np.int64)]).count_nonzero() == 0:
        return None
    from sklearn.decomposition import PCA

    pca = PCA(components, svd_solver="arpack", random_state=sklearn_seed(seed, "gene loadings")).fit(logged)
    return np.asarray(pca.components_.T * np.sqrt(pca.explained_variance_), dtype=np.float32)
