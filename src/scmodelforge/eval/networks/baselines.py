"""What networks are scored by without a model: chance, expression, popularity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from scmodelforge.eval.genes.expression import gene_loadings
from scmodelforge.eval.genes.vectors import GeneVectors
from scmodelforge.eval.networks.genie3 import genie3_scores
from scmodelforge.eval.networks.matching import Network
from scmodelforge.eval.networks.score_matrices import (
    cosine_scores,
    expression_scores,
    pearson_scores,
    random_scores,
    target_degree_scores,
    tf_degree_scores,
)

__all__ = ["NetworkBaseline", "baseline_scores"]

NetworkBaseline = Literal["random", "pearson", "svd", "expression", "target_degree", "tf_degree", "genie3"]


def baseline_scores(
    wanted: list[NetworkBaseline],
    network: Network,
    vectors: GeneVectors,
    *,
    seed: int,
    genie3_trees: int,
    genie3_cells: int,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the scores of each baseline, shape (T, G), by name; and why any of them has none.

    Parameters
    ----------
    wanted
        Names of the baselines.
    network
        What they are scored on; degrees are read off it.
    vectors
        The genes, and their counts in training cells.
    seed
        Seed of draws.
    genie3_trees, genie3_cells
        As of :func:`~scmodelforge.eval.networks.genie3.genie3_scores`.
    """
    counts, tfs, names = vectors.counts, network.tfs, vectors.names
    ways: dict[str, Callable[[], np.ndarray | None]] = {
        "random": lambda: random_scores(names, tfs, seed=seed),
        "target_degree": lambda: target_degree_scores(network),
        "tf_degree": lambda: tf_degree_scores(network),
    }
    if counts is not None and counts.shape[0] > 1:
        given = counts
        ways |= {
            "pearson": lambda: pearson_scores(given, tfs),
            "expression": lambda: expression_scores(given, tfs),
            "svd": lambda: _loading_cosines(vectors, tfs, seed),
            "genie3": lambda: genie3_scores(given, tfs, names, trees=genie3_trees, max_cells=genie3_cells, seed=seed),
        }
    found: dict[str, np.ndarray] = {}
    reasons: dict[str, str] = {}
    for name in wanted:
        scores = ways[name]() if name in ways else None
        if scores is None:
            reasons[name] = "there are no training cells that differ" if name in ways else "there are no training cells"
        else:
            found[name] = scores
    return found, reasons


def _loading_cosines(vectors: GeneVectors, tfs: np.ndarray, seed: int) -> np.ndarray | None:
    loadings = None if vectors.counts is None else gene_loadings(vectors.counts, seed=seed)
    return None if loadings is None else cosine_scores(loadings, tfs)
