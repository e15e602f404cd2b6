"""The names of the metrics. A name carries its variant: official tools give different numbers the same name."""

from __future__ import annotations

from typing import Literal

__all__ = ["BIOLOGY_DEFAULT", "INTEGRATION_DEFAULT", "BiologyMetric", "EmbeddingMetric"]

#: What needs labels only.
BiologyMetric = Literal[
    "nmi_kmeans",
    "ari_kmeans",
    "nmi_leiden_scib_metrics",
    "ari_leiden_scib_metrics",
    "nmi_leiden_scib",
    "ari_leiden_scib",
    "nmi_leiden_res1",
    "ari_leiden_res1",
    "silhouette_label",
    "clisi_knn",
    "clisi_graph",
    "graph_connectivity_scib",
    "graph_connectivity_directed",
]

EmbeddingMetric = Literal[
    BiologyMetric,
    "isolated_labels_asw",
    "isolated_labels_asw_scib",
    "isolated_labels_f1",
    "silhouette_batch",
    "bras",
    "bras_furthest",
    "ilisi_knn",
    "ilisi_graph",
    "kbet_k50",
    "kbet_per_label",
    "pcr_comparison",
    "bio_conservation",
    "batch_correction",
    "total",
]

BIOLOGY_DEFAULT: tuple[BiologyMetric, ...] = ("nmi_kmeans", "ari_kmeans", "silhouette_label")

#: What scib-metrics' Benchmarker computes by default, its older silhouette_batch, and its aggregates.
INTEGRATION_DEFAULT: tuple[EmbeddingMetric, ...] = (
    "silhouette_batch",
    "nmi_kmeans",
    "ari_kmeans",
    "silhouette_label",
    "isolated_labels_asw",
    "clisi_knn",
    "bras",
    "ilisi_knn",
    "kbet_per_label",
    "graph_connectivity_directed",
    "pcr_comparison",
    "bio_conservation",
    "batch_correction",
    "total",
)
