"""The same metrics by scib-metrics, on our exact neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from scmodelforge._optional import require
from scmodelforge.eval.embedding.kbet import KBET_NEIGHBORS
from scmodelforge.eval.embedding.lisi import LISI_NEIGHBORS
from scmodelforge.eval.embedding.measures import Score
from scmodelforge.eval.embedding.scene import GRAPH_NEIGHBORS, Scene

__all__ = ["official_score"]


def official_score(name: str, scene: Scene) -> Score:
    """Return a metric as scib-metrics computes it; no score if it is not one of its metrics.

    Parameters
    ----------
    name
        Our name.
    scene
        The cells, for which the metric is defined.

    Raises
    ------
    ImportError
        If scib-metrics is not installed.
    """
    package: Any = require("scib_metrics", extra="scib-metrics", why="backend 'scib-metrics'")
    library = f"scib-metrics {package.__version__}"
    value = _compute(package, name, scene)
    if value is None:
        return Score(None, "scib-metrics does not compute it", library=library)
    if np.isnan(value):
        return Score(None, "scib-metrics finds it not defined", library=library)
    return Score(float(value), library=library)


def _compute(package: Any, name: str, scene: Scene) -> float | None:
    points, labels = scene.embeddings, scene.label_names[scene.labels]
    batches = None if scene.batches is None else scene.batch_names[scene.batches]
    if "kmeans" in name:
        return float(package.nmi_ari_cluster_labels_kmeans(points, labels)[name[:3]])
    if name.endswith(("leiden_scib_metrics", "leiden_res1")):
        is_best = not name.endswith("res1")
        near = _results(scene, GRAPH_NEIGHBORS)
        return float(package.nmi_ari_cluster_labels_leiden(near, labels, optimize_resolution=is_best)[name[:3]])
    by_name = {
        "silhouette_label": lambda: package.silhouette_label(points, labels),
        "isolated_labels_asw": lambda: package.isolated_labels(points, labels, batches),
        "clisi_knn": lambda: package.clisi_knn(_results(scene, LISI_NEIGHBORS), labels),
        "ilisi_knn": lambda: package.ilisi_knn(_results(scene, LISI_NEIGHBORS), batches),
        "silhouette_batch": lambda: package.silhouette_batch(points, labels, batches),
        "bras": lambda: package.bras(points, labels, batches),
        "bras_furthest": lambda: package.bras(points, labels, batches, between_cluster_distances="furthest"),
        "kbet_k50": lambda: package.kbet(_results(scene, KBET_NEIGHBORS), batches)[0],
        "kbet_per_label": lambda: package.kbet_per_label(_results(scene, KBET_NEIGHBORS), batches, labels),
        "graph_connectivity_directed": lambda: package.graph_connectivity(_results(scene, GRAPH_NEIGHBORS), labels),
        "pcr_comparison": lambda: package.pcr_comparison(scene.reference, points, batches, categorical=True),
    }
    return float(by_name[name]()) if name in by_name else None


def _results(scene: Scene, k: int) -> Any:
    from scib_metrics.nearest_neighbors import NeighborsResults

    near = scene.nearest(k)
    return NeighborsResults(indices=near.indices, distances=near.distances.astype(np.float32))
