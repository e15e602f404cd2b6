"""Scores of pairs of a factor and a gene, each a matrix of shape (T, G). Higher is more likely an edge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from scmodelforge.data.draws import mix, uniforms
from scmodelforge.eval.genes.expression import expression_levels, pearson
from scmodelforge.eval.genes.vectors import gene_keys
from scmodelforge.eval.networks.matching import Network

__all__ = [
    "cosine_scores",
    "expression_scores",
    "pearson_scores",
    "random_scores",
    "target_degree_scores",
    "tf_degree_scores",
]


def cosine_scores(vectors: np.ndarray, tfs: np.ndarray) -> np.ndarray:
    """Return the cosine of the vectors of factors and genes; 0 for a vector without length. It knows no direction.

    Parameters
    ----------
    vectors
        Vector of each gene, shape (G, H).
    tfs
        Numbers of the factors among the genes, shape (T,).
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return np.asarray(unit[tfs] @ unit.T)


def pearson_scores(counts: sp.csr_matrix, tfs: np.ndarray) -> np.ndarray:
    """Return the absolute correlation over cells of logged expression, counts being CSR (n, G)."""
    return np.abs(pearson(counts, tfs))


def expression_scores(counts: sp.csr_matrix, tfs: np.ndarray) -> np.ndarray:
    """Return the mean logged expression of the gene, whatever the factor."""
    return np.tile(expression_levels(counts)[:, 0], (len(tfs), 1))


def random_scores(names: Sequence[str], tfs: np.ndarray, *, seed: int) -> np.ndarray:
    """Return uniform draws that depend on the seed and both names alone."""
    keys = gene_keys(names)
    return uniforms(mix(seed, "random scores", keys[tfs])[:, None], "pair", keys[None, :])


def target_degree_scores(network: Network) -> np.ndarray:
    """Return how many other factors are known to target the gene: popular genes first.

    It reads the network that is scored, though never the pair itself: what a method reaches that knows which genes are
    often studied, and nothing of the factor.
    """
    return np.asarray(network.truth.sum(axis=0)[None, :] - network.truth, dtype=np.float64)


def tf_degree_scores(network: Network) -> np.ndarray:
    """Return how many genes the factor is known to target, whatever the gene: factors that are often studied first."""
    return np.tile(network.truth.sum(axis=1, dtype=np.float64)[:, None], (1, len(network.genes)))
