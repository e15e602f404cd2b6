"""Settings that the benchmarks of embeddings share."""

from __future__ import annotations

from pydantic import Field, field_validator

from scmodelforge.config.schema import BenchmarkConfig, refuse_biollm
from scmodelforge.eval.embedding.catalogue import METRICS
from scmodelforge.eval.embedding.score import Backend

__all__ = ["EmbeddingBenchmarkConfig"]


class EmbeddingBenchmarkConfig(BenchmarkConfig):
    """What every benchmark of embeddings can be told."""

    kmeans_starts: int = Field(10, gt=0)
    """Starts of k-means; the tightest clustering counts."""
    backend: Backend = "native"
    """What computes the metrics: this package, or ``scib-metrics`` (extra of that name) on the same neighbours."""

    @property
    def uses_reference(self) -> bool:
        """Whether a metric compares embeddings with the cells before integration."""
        return any(METRICS[name].reference for name in getattr(self, "metrics", ()) if name in METRICS)

    @field_validator("backend", mode="before")
    @classmethod
    def _is_offered(cls, backend: object) -> object:
        refuse_biollm(backend)
        return backend

    @field_validator("metrics", check_fields=False)
    @classmethod
    def _are_listed_once(cls, names: list[str]) -> list[str]:
        for name in names:
            if names.count(name) > 1:
                msg = f"'{name}' is listed twice; list each metric once"
                raise ValueError(msg)
        return names
