"""Do cells of a type lie together? Clusterings and silhouette by label on held-out cells."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.eval.base import BenchmarkInputs, Record, register_benchmark
from scmodelforge.eval.biology import biology_records

__all__ = ["EmbeddingQuality", "EmbeddingQualityConfig"]


class EmbeddingQualityConfig(BenchmarkConfig):
    """Settings of the benchmark."""

    name: str = "embedding_quality"
    kmeans_starts: int = Field(10, gt=0)
    """Starts of k-means; the tightest clustering counts."""


@register_benchmark("embedding_quality")
class EmbeddingQuality:
    """``nmi_kmeans``, ``ari_kmeans`` and ``silhouette_label`` of the held-out cells."""

    config_class: ClassVar[type[BenchmarkConfig]] = EmbeddingQualityConfig
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    columns: ClassVar[frozenset[str]] = frozenset({"label"})

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = EmbeddingQualityConfig.model_validate(config.model_dump())

    def run(self, inputs: BenchmarkInputs) -> list[Record]:
        """Score the held-out cells; nothing is fitted on training cells."""
        return biology_records("embedding_quality", inputs, n_init=self.config.kmeans_starts)
