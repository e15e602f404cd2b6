"""Do cells of a type lie together? Clusterings, silhouettes and neighbourhoods by label on held-out cells."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.eval.base import BenchmarkInputs, Record, register_benchmark
from scmodelforge.eval.embedding.names import BIOLOGY_DEFAULT, BiologyMetric
from scmodelforge.eval.embedding.score import score_embedding
from scmodelforge.eval.embedding.settings import EmbeddingBenchmarkConfig

__all__ = ["EmbeddingQuality", "EmbeddingQualityConfig"]

_NAME = "embedding_quality"


class EmbeddingQualityConfig(EmbeddingBenchmarkConfig):
    """Settings of the benchmark."""

    name: str = _NAME
    metrics: list[BiologyMetric] = Field(list(BIOLOGY_DEFAULT), min_length=1)
    """What is computed; docs/evaluation/embedding.md explains each."""


@register_benchmark(_NAME)
class EmbeddingQuality:
    """Metrics of the held-out cells that need labels only; ``metrics`` lists them."""

    config_class: ClassVar[type[BenchmarkConfig]] = EmbeddingQualityConfig
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    columns: ClassVar[frozenset[str]] = frozenset({"label"})

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = EmbeddingQualityConfig.model_validate(config.model_dump())

    @property
    def uses_reference(self) -> bool:
        """Whether a metric compares embeddings with the cells before integration."""
        return self.config.uses_reference

    def run(self, inputs: BenchmarkInputs) -> list[Record]:
        """Score the held-out cells; nothing is fitted on training cells."""
        own = self.config
        return score_embedding(_NAME, inputs, own.metrics, kmeans_starts=own.kmeans_starts, backend=own.backend)
