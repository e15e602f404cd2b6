"""Every metric by its name: how it is computed, what it needs, and to which average it belongs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from scmodelforge.eval.embedding import measures
from scmodelforge.eval.embedding.clustering import Flavour
from scmodelforge.eval.embedding.kbet import KBET_NEIGHBORS
from scmodelforge.eval.embedding.lisi import LISI_NEIGHBORS
from scmodelforge.eval.embedding.measures import Score
from scmodelforge.eval.embedding.names import EmbeddingMetric
from scmodelforge.eval.embedding.scene import GRAPH_NEIGHBORS, Scene

__all__ = ["AGGREGATES", "METRICS", "Metric", "all_names"]

#: Averages of other metrics.
AGGREGATES = ("bio_conservation", "batch_correction", "total")


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes
    ----------
    compute
        Computes it.
    labels, batches
        How many different ones it needs.
    k
        Neighbours it needs, the cell itself included.
    leiden
        The Leiden clustering it needs.
    reference
        Whether it needs the cells before integration.
    averaged_in
        The aggregate it counts for: those are the metrics of scib-metrics' Benchmarker.
    """

    compute: Callable[[Scene], Score]
    labels: int = 2
    batches: int = 0
    k: int = 0
    leiden: Flavour | None = None
    reference: bool = False
    averaged_in: Literal["bio_conservation", "batch_correction"] | None = None


def _clusters(score: str, by: str, flavour: Flavour | None = None, *, averaged: bool = False) -> Metric:
    return Metric(
        partial(measures.clusters, score=score, by=by),
        k=GRAPH_NEIGHBORS if flavour else 0,
        leiden=flavour,
        averaged_in="bio_conservation" if averaged else None,
    )


METRICS: dict[str, Metric] = {
    "nmi_kmeans": _clusters("nmi", "kmeans", averaged=True),
    "ari_kmeans": _clusters("ari", "kmeans", averaged=True),
    "nmi_leiden_scib_metrics": _clusters("nmi", "leiden_scib_metrics", "scib_metrics", averaged=True),
    "ari_leiden_scib_metrics": _clusters("ari", "leiden_scib_metrics", "scib_metrics", averaged=True),
    "nmi_leiden_scib": _clusters("nmi", "leiden_scib", "scib"),
    "ari_leiden_scib": _clusters("ari", "leiden_scib", "scib"),
    "nmi_leiden_res1": _clusters("nmi", "leiden_res1", "scib_metrics"),
    "ari_leiden_res1": _clusters("ari", "leiden_res1", "scib_metrics"),
    "silhouette_label": Metric(measures.label_silhouette, averaged_in="bio_conservation"),
    "isolated_labels_asw": Metric(
        partial(measures.isolated, convention="scib_metrics"), batches=1, averaged_in="bio_conservation"
    ),
    "isolated_labels_asw_scib": Metric(partial(measures.isolated, convention="scib"), batches=1),
    "isolated_labels_f1": Metric(measures.isolated_f1, batches=1, k=GRAPH_NEIGHBORS, leiden="scib"),
    "clisi_knn": Metric(
        partial(measures.lisi_score, of="label", graph=False), k=LISI_NEIGHBORS, averaged_in="bio_conservation"
    ),
    "clisi_graph": Metric(partial(measures.lisi_score, of="label", graph=True), k=LISI_NEIGHBORS),
    "silhouette_batch": Metric(
        partial(measures.batch_scores, distance="euclidean", others="nearest"), labels=1, batches=2
    ),
    "bras": Metric(
        partial(measures.batch_scores, distance="cosine", others="mean_other"),
        labels=1,
        batches=2,
        averaged_in="batch_correction",
    ),
    "bras_furthest": Metric(partial(measures.batch_scores, distance="cosine", others="furthest"), labels=1, batches=2),
    "ilisi_knn": Metric(
        partial(measures.lisi_score, of="batch", graph=False),
        labels=1,
        batches=2,
        k=LISI_NEIGHBORS,
        averaged_in="batch_correction",
    ),
    "ilisi_graph": Metric(partial(measures.lisi_score, of="batch", graph=True), labels=1, batches=2, k=LISI_NEIGHBORS),
    "kbet_k50": Metric(measures.kbet_all, labels=1, batches=2, k=KBET_NEIGHBORS),
    "kbet_per_label": Metric(
        measures.kbet_labels, labels=1, batches=2, k=KBET_NEIGHBORS, averaged_in="batch_correction"
    ),
    "graph_connectivity_scib": Metric(partial(measures.connectivity, directed=False), k=GRAPH_NEIGHBORS),
    "graph_connectivity_directed": Metric(
        partial(measures.connectivity, directed=True), k=GRAPH_NEIGHBORS, averaged_in="batch_correction"
    ),
    "pcr_comparison": Metric(measures.variance, labels=1, batches=2, reference=True, averaged_in="batch_correction"),
}


def all_names() -> tuple[str, ...]:
    """Return the names that settings may list."""

    def flat(literal: object) -> list[str]:
        return [name for each in get_args(literal) for name in ([each] if isinstance(each, str) else flat(each))]

    return tuple(flat(EmbeddingMetric))
