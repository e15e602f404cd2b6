"""Clusterings that labels are compared with: k-means, and Leiden in the flavours of scib-metrics and of scib."""

from __future__ import annotations

import random
import warnings
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from scmodelforge._optional import require

__all__ = ["RESOLUTIONS", "Flavour", "kmeans", "lacks_leiden", "leiden"]

Flavour = Literal["scib_metrics", "scib"]

#: scib tries these and keeps the one that agrees best with the labels.
RESOLUTIONS = tuple(2 * step / 10 for step in range(1, 11))
_SEEDS = {"scib_metrics": 42, "scib": 0}


def kmeans(embeddings: np.ndarray, k: int, *, starts: int, seed: int) -> np.ndarray:
    """Return the cluster of each cell, of the tightest of several k-means clusterings (k-means++).

    Parameters
    ----------
    embeddings
        Shape (n, H).
    k
        Clusters; fewer are found if there are fewer different points.
    starts
        How many clusterings are tried.
    seed
        Seed, below 2**32.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    model = KMeans(k, init="k-means++", n_init=starts, random_state=seed)
    # Fewer different points than clusters: scikit-learn warns and gives fewer clusters.
    # One thread: with several, sums are added up in the order the threads finish, and ties may fall otherwise.
    with warnings.catch_warnings(), threadpool_limits(1, user_api="openmp"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(model.fit_predict(embeddings.astype(np.float64)))


def leiden(graph: sp.csr_matrix, resolutions: tuple[float, ...], flavour: Flavour) -> list[np.ndarray]:
    """Return the Leiden clustering (Traag et al. 2019, doi:10.1038/s41598-019-41695-z) at each resolution.

    Parameters
    ----------
    graph
        Symmetric weights, CSR (n, n).
    resolutions
        The higher, the more clusters.
    flavour
        ``scib_metrics`` is igraph's, for modularity, two rounds, seed 42; ``scib`` is leidenalg's (with its
        configuration null model) on the directed graph, until nothing changes, seed 0, as in scanpy.

    Raises
    ------
    ImportError
        If igraph or leidenalg is not installed.
    """
    if flavour == "scib":
        return [_leidenalg(graph, resolution) for resolution in resolutions]
    return _igraph(graph, resolutions)


def lacks_leiden(flavour: Flavour) -> str | None:
    """Return why this flavour cannot be computed here, with the line that installs what is lacking."""
    packages = ("igraph",) if flavour == "scib_metrics" else ("igraph", "leidenalg")
    for package in packages:
        if find_spec(package) is None:
            return f"Leiden clustering needs the package '{package}'; pip install 'scmodelforge[leiden]'"
    return None


def _igraph(graph: sp.csr_matrix, resolutions: tuple[float, ...]) -> list[np.ndarray]:
    igraph: Any = require("igraph", extra="leiden", why="Leiden clustering")
    edges = igraph.Graph.Weighted_Adjacency(graph, mode="directed")
    edges.to_undirected(mode="each")
    found = []
    try:
        for resolution in resolutions:
            igraph.set_random_number_generator(random.Random(_SEEDS["scib_metrics"]))
            clusters = edges.community_leiden(
                objective_function="modularity", weights="weight", resolution=resolution, n_iterations=2
            )
            found.append(np.asarray(clusters.membership))
    finally:
        igraph.set_random_number_generator(random)  # its own default
    return found


def _leidenalg(graph: sp.csr_matrix, resolution: float) -> np.ndarray:
    igraph: Any = require("igraph", extra="leiden", why="Leiden clustering")
    leidenalg: Any = require("leidenalg", extra="leiden", why="Leiden clustering as in scib")
    edges = graph.tocoo()
    network = igraph.Graph(n=graph.shape[0], edges=np.stack([edges.row, edges.col], axis=1), directed=True)
    partition = leidenalg.find_partition(
        network,
        leidenalg.RBConfigurationVertexPartition,
        weights=edges.data.astype(np.float64),
        n_iterations=-1,
        seed=_SEEDS["scib"],
        resolution_parameter=resolution,
    )
    return np.asarray(partition.membership)
